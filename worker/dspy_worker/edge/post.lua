-- Adds what a pod spent while Redis was away, once, however often it is sent.
-- KEYS  an account's hash, the hash of its budget's totals
-- ARGV  name of the posting, nanos, end of the period
if redis.call('HSETNX', KEYS[1], 'post:' .. ARGV[1], '1') == 1 then
  local last = string.format('%.0f', tonumber(ARGV[3]) + 172800000)
  for _, key in ipairs(KEYS) do
    redis.call('HINCRBY', key, 'spent', ARGV[2])
    redis.call('PEXPIREAT', key, last)
  end
end
return redis.call('HGET', KEYS[1], 'spent')
