-- Sets an amount aside in all accounts, or in none; core/book.py decides the same.
-- KEYS  for each account: its hash, its open reservations (sorted by expiry), the hash of its
--       budget's totals
-- ARGV  name, amount, milliseconds until it expires, 1 to heed soft limits; then for each account:
--       start and end of the period, limit, soft limit or -1, 1 if enforced, what the pod knows of
--       it: its birth mark and what was spent
-- Returns a status ("granted", "refused", "soft", "turned"), the place of the account that
-- decided, the time, and what `tell` tells of each account.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local name, amount, heed = ARGV[1], tonumber(ARGV[2]), ARGV[4] == '1'
local count = #KEYS / 3

local function argument(i, n) return ARGV[4 + (i - 1) * 7 + n] end

for i = 1, count do
  if now < tonumber(argument(i, 1)) or now >= tonumber(argument(i, 2)) then
    return {'turned', '0', whole(now)}
  end
end

local refused, soft = 0, 0
for i = 1, count do
  local account, open, total = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i]
  recall(account, total, name, argument(i, 2), argument(i, 6), argument(i, 7))
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', open, '-inf', now)) do
    local held = string.match(member, '%d+$')
    redis.call('ZREM', open, member)
    add(account, total, 'spent', held)
    add(account, total, 'reserved', '-' .. held)
  end
  if argument(i, 5) == '1' then
    local spent, share = spent_of(account), tonumber(argument(i, 4))
    local reserved = tonumber(redis.call('HGET', account, 'reserved') or 0)
    if heed and soft == 0 and share >= 0 and spent >= share then soft = i end
    if refused == 0 and spent + reserved + amount > tonumber(argument(i, 3)) then refused = i end
  end
end

local status, place = 'granted', 0
if soft > 0 then
  status, place = 'soft', soft
elseif refused > 0 then
  status, place = 'refused', refused
end

local answer = {status, tostring(place), whole(now)}
for i = 1, count do
  local account, open, total = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i]
  if status == 'granted' and amount > 0 then
    redis.call('ZADD', open, whole(now + tonumber(ARGV[3])), name .. ':' .. ARGV[2])
    add(account, total, 'reserved', ARGV[2])
    keep(open, argument(i, 2))
    keep(total, argument(i, 2))
  end
  tell(answer, account, total)
end
return answer
