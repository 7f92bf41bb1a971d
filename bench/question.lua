-- Asks a question that nobody has asked before, so that no cache answers; with DIFFERENT it asks so many
-- ones again and again. Tells its sums as JSON.
local body, asked, run = os.getenv("BODY"), 0, tostring(os.time()) .. tostring({}):sub(-6)
local different = tonumber(os.getenv("DIFFERENT") or "0")
if different > 0 then run = "again" end
local headers = { ["content-type"] = "application/json" }

request = function()
  asked = asked + 1
  if different > 0 then asked = asked % different end
  local question = "What is the number " .. run .. "-" .. asked .. " good for?"
  return wrk.format("POST", nil, headers, (body:gsub("%%s", question)))
end

done = function(summary, latency)
  local e = summary.errors
  local failed = e.status + e.connect + e.read + e.write + e.timeout
  io.write(string.format(
    '{"completed": %d, "failed": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f}\n',
    summary.requests - e.status, failed, summary.duration / 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
