-- What the scripts of budgets share. An account is a hash:
--   spent     since its birth            reserved   for calls under way
--   born      tells it from an account of that name before Redis lost its memory
--   base      what pods know to have been spent before its birth
local grace = 172800000

local function whole(number) return string.format('%.0f', number) end

local function keep(key, stop) redis.call('PEXPIREAT', key, whole(tonumber(stop) + grace)) end

local function add(account, total, field, by)
  redis.call('HINCRBY', account, field, by)
  redis.call('HINCRBY', total, field, by)
end

-- Makes an account if there is none, and reminds it: `known` was spent when it was called `born`.
local function recall(account, total, name, stop, born, known)
  local present = redis.call('HGET', account, 'born')
  if not present then
    redis.call('HSET', account, 'born', name)
    keep(account, stop)
    present = name
  end
  local base = tonumber(redis.call('HGET', account, 'base') or 0)
  if born ~= '' and born ~= present and tonumber(known) > base then
    redis.call('HSET', account, 'base', known)
    redis.call('HINCRBY', total, 'spent', whole(tonumber(known) - base))
    keep(total, stop)
  end
  return present
end

local function spent_of(account)
  local found = redis.call('HMGET', account, 'spent', 'base')
  return tonumber(found[1] or 0) + tonumber(found[2] or 0)
end

-- Adds to an answer: spent, reserved, both of all accounts, born.
local function tell(answer, account, total)
  local own = redis.call('HMGET', account, 'reserved', 'born')
  local all = redis.call('HMGET', total, 'spent', 'reserved')
  answer[#answer + 1] = whole(spent_of(account))
  answer[#answer + 1] = own[1] or '0'
  answer[#answer + 1] = all[1] or '0'
  answer[#answer + 1] = all[2] or '0'
  answer[#answer + 1] = own[2] or ''
end
