-- Puts the real cost in the place of a reservation; core/book.py decides the same.
-- KEYS  as in reserve.lua
-- ARGV  name, amount, cost, 1 if this was sent before and no answer came; then for each account:
--       the end of its period, and its birth mark ('' where nobody knows whether it was reserved)
-- An account that was born anew since has forgotten the reservation: Redis has lost its memory.
-- Returns for each account: spent, reserved, both of all.
local name, amount, cost = ARGV[1], ARGV[2], tonumber(ARGV[3])
local repeated = ARGV[4] == '1'
local grace = 172800000
local answer = {}

for i = 1, #KEYS / 3 do
  local account, open, total = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i]
  local stop, born = ARGV[4 + 2 * i - 1], ARGV[4 + 2 * i]
  local function spend(nanos)
    redis.call('HINCRBY', account, 'spent', string.format('%.0f', nanos))
    redis.call('HINCRBY', total, 'spent', string.format('%.0f', nanos))
  end
  if redis.call('ZREM', open, name .. ':' .. amount) == 1 then
    redis.call('HINCRBY', account, 'reserved', '-' .. amount)
    redis.call('HINCRBY', total, 'reserved', '-' .. amount)
    spend(cost)
  elseif born ~= '' then
    if (redis.call('HGET', account, 'born') or '') ~= born then
      redis.call('HSETNX', account, 'born', name)
      spend(cost)
      local last = string.format('%.0f', tonumber(stop) + grace)
      redis.call('PEXPIREAT', account, last)
      redis.call('PEXPIREAT', total, last)
    elseif not repeated and cost > tonumber(amount) then
      spend(cost - tonumber(amount))
    end
  end
  local own = redis.call('HMGET', account, 'spent', 'reserved')
  local all = redis.call('HMGET', total, 'spent', 'reserved')
  for _, value in ipairs({own[1] or '0', own[2] or '0', all[1] or '0', all[2] or '0'}) do
    answer[#answer + 1] = value
  end
end
return answer
