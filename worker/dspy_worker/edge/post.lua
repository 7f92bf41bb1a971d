-- Adds what a pod spent while Redis was away, once, however often it is sent.
-- KEYS  an account's hash, the hash of its budget's totals
-- ARGV  name of the posting, nanos, end of the period, what the pod knows of the account: its
--       birth mark and what was spent
-- Returns what `tell` tells of the account.
local account, total = KEYS[1], KEYS[2]
recall(account, total, ARGV[1], ARGV[3], ARGV[4], ARGV[5])
if redis.call('HSETNX', account, 'post:' .. ARGV[1], '1') == 1 then
  add(account, total, 'spent', ARGV[2])
  keep(total, ARGV[3])
end
local answer = {}
tell(answer, account, total)
return answer
