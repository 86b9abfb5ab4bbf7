-- Posts files in turn: wrk ... -s post.lua URL -- PATH CONTENT_TYPE FILE...
local ready, turn = {}, 0

function init(args)
  for number = 3, #args do
    local file = assert(io.open(args[number], "rb"))
    local body = file:read("*a")
    file:close()
    ready[#ready + 1] = wrk.format("POST", args[1], { ["Content-Type"] = args[2] }, body)
  end
end

function request()
  turn = turn % #ready + 1
  return ready[turn]
end

-- Numbers to be read by a program; wrk's own summary rounds them. Times are in microseconds.
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    "result requests=%d duration_us=%d p50_us=%d p99_us=%d connect=%d read=%d write=%d timeout=%d status=%d\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
