-- Holds a new connection while there is no Redis master with a replica: for up to 10 s, and
-- for up to 2 s where there is a master without replicas, which only reads are of use to.
-- Written by Holdfast.
core.register_action("await_master", { "tcp-req" }, function(txn)
	for tries = 1, 200 do
		if txn.f:nbsrv("redis.master") > 0 then
			return
		end
		if tries > 40 and core.backends["redis.master-alone"] and txn.f:nbsrv("redis.master-alone") > 0 then
			return
		end
		core.msleep(50)
	end
end)
