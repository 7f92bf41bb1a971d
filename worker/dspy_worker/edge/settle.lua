-- Puts the real cost in the place of a reservation; core/book.py decides the same.
-- KEYS  as in reserve.lua
-- ARGV  name, amount, cost, 1 if this was sent before and no answer came; then for each account:
--       the end of its period, its birth mark when the amount was set aside ('' if nobody knows
--       whether it was), and what the pod knows of it: its birth mark and what was spent
-- An account with another birth mark has forgotten the reservation. One with the same has spent it
-- when it expired, or has settled it before.
-- Returns what `tell` tells of each account.
local name, amount, cost = ARGV[1], ARGV[2], tonumber(ARGV[3])
local repeated = ARGV[4] == '1'
local answer = {}

local function argument(i, n) return ARGV[4 + (i - 1) * 4 + n] end

for i = 1, #KEYS / 3 do
  local account, open, total = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i]
  local stop, born = argument(i, 1), argument(i, 2)
  local present = recall(account, total, name, stop, argument(i, 3), argument(i, 4))
  local charge = 0
  if redis.call('ZREM', open, name .. ':' .. amount) == 1 then
    add(account, total, 'reserved', '-' .. amount)
    charge = cost
  elseif born ~= '' and born ~= present then
    charge = cost
  elseif born ~= '' and not repeated then
    charge = math.max(0, cost - tonumber(amount))
  end
  add(account, total, 'spent', whole(charge))
  keep(total, stop)
  tell(answer, account, total)
end
return answer
