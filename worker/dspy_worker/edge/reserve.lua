-- Sets an amount aside in all accounts, or in none; core/book.py decides the same.
-- KEYS  for each account: its hash (spent, reserved, born), its open reservations (sorted by
--       expiry), the hash of its budget's totals
-- ARGV  name, amount, milliseconds until it expires, 1 to heed soft limits; then for each account:
--       start and end of the period, limit, soft limit or -1, 1 if enforced, what is surely spent
-- Returns a status ("granted", "refused", "soft", "turned"), the place of the account that
-- decided, the time, and for each account: spent, reserved, both of all, born.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local name, amount, heed = ARGV[1], tonumber(ARGV[2]), ARGV[4] == '1'
local count = #KEYS / 3
local grace = 172800000
local told = string.format('%.0f', now)

local function argument(i, n) return ARGV[4 + (i - 1) * 6 + n] end

for i = 1, count do
  if now < tonumber(argument(i, 1)) or now >= tonumber(argument(i, 2)) then
    return {'turned', '0', told}
  end
end

local function change(i, field, by)
  redis.call('HINCRBY', KEYS[3 * i - 2], field, by)
  redis.call('HINCRBY', KEYS[3 * i], field, by)
end

local function whole(number) return string.format('%.0f', number) end

local function keep(i)
  local last = whole(tonumber(argument(i, 2)) + grace)
  for k = 3 * i - 2, 3 * i do redis.call('PEXPIREAT', KEYS[k], last) end
end

local refused, soft = 0, 0
for i = 1, count do
  local account, open = KEYS[3 * i - 2], KEYS[3 * i - 1]
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', open, '-inf', now)) do
    local held = string.match(member, '%d+$')
    redis.call('ZREM', open, member)
    change(i, 'spent', held)
    change(i, 'reserved', '-' .. held)
  end
  local state = redis.call('HMGET', account, 'spent', 'reserved')
  local spent, reserved = tonumber(state[1] or 0), tonumber(state[2] or 0)
  local floor = tonumber(argument(i, 6))
  if floor > spent then
    change(i, 'spent', whole(floor - spent))
    keep(i)
    spent = floor
  end
  local limit, share = tonumber(argument(i, 3)), tonumber(argument(i, 4))
  if argument(i, 5) == '1' then
    if heed and soft == 0 and share >= 0 and spent >= share then soft = i end
    if refused == 0 and spent + reserved + amount > limit then refused = i end
  end
end

local status, place = 'granted', 0
if soft > 0 then
  status, place = 'soft', soft
elseif refused > 0 then
  status, place = 'refused', refused
end

local answer = {status, tostring(place), told}
for i = 1, count do
  local account, open, total = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i]
  if status == 'granted' and amount > 0 then
    redis.call('ZADD', open, whole(now + tonumber(ARGV[3])), name .. ':' .. ARGV[2])
    change(i, 'reserved', ARGV[2])
    redis.call('HSETNX', account, 'born', name)
    keep(i)
  end
  local own = redis.call('HMGET', account, 'spent', 'reserved', 'born')
  local all = redis.call('HMGET', total, 'spent', 'reserved')
  for _, value in ipairs({own[1] or '0', own[2] or '0', all[1] or '0', all[2] or '0', own[3] or ''}) do
    answer[#answer + 1] = value
  end
end
return answer
