-- Holds a new connection while there is no Redis master that takes writes: for up to 10 s, and
-- for up to 2 s where a master can only be read. Written by Holdfast.

-- waited is how long ago a time was, in seconds.
local function waited(since)
	local now = core.now()
	return now.sec - since.sec + (now.usec - since.usec) / 1000000
end

-- gone is whether the client has closed: what it has sent is not to be carried out later. A full
-- buffer receives nothing either. HAProxy 2.4 does not tell.
local function gone(txn)
	local tells, is = pcall(function()
		return not txn.req:may_recv() and not txn.req:is_full()
	end)
	return tells and is
end

core.register_action("await_master", { "tcp-req" }, function(txn)
	local began = core.now()
	while txn.f:nbsrv("redis.master") == 0 and waited(began) < 10 do
		if waited(began) > 2 and core.backends["redis.master-alone"] and txn.f:nbsrv("redis.master-alone") > 0 then
			return
		end
		if gone(txn) then
			txn:done()
			return
		end
		core.msleep(50)
	end
end)
