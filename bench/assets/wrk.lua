-- Sends prepared requests in turn. The file has for each one its length in
-- bytes, a line feed, and the request. In a request @ONCE@ stands for a number
-- that no other request has.
local requests, count, at = {}, 0, 0
local once, stamp, sent = false, "", 0
local threads = 0

function setup(thread)
   thread:set("id", threads)
   threads = threads + 1
end

function init(args)
   local file = assert(io.open(args[1], "rb"))
   local data = file:read("*a")
   file:close()
   stamp = args[2]
   local from = 1
   while from <= #data do
      local line_end = data:find("\n", from, true)
      local length = tonumber(data:sub(from, line_end - 1))
      count = count + 1
      requests[count] = data:sub(line_end + 1, line_end + length)
      from = line_end + 1 + length
   end
   once = requests[1]:find("@ONCE@", 1, true) ~= nil
   at = (id * 389) % count
end

function request()
   at = at % count + 1
   if not once then return requests[at] end
   sent = sent + 1
   return (requests[at]:gsub("@ONCE@", stamp .. "-" .. id .. "-" .. sent, 1))
end

function done(summary, latency)
   local e = summary.errors
   io.write(string.format(
      '\n@RESULT@{"micros":%.0f,"requests":%.0f,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,"p50":%.0f,"p99":%.0f,"p999":%.0f}\n',
      summary.duration, summary.requests, e.connect, e.read, e.write, e.status, e.timeout,
      latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
