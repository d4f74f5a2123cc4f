-- The fleet's stored answers in Redis: one operation per call, atomic, by the server's own time.
--
-- KEYS[1] is {namespace}:cache:v; every other key begins like it, so that all lie in one slot of a Cluster. ARGV[1]
-- names the operation. Positions are microseconds of the server's time, and grow from one event to the next.
--
--   {ns}:cache:v          the position of the latest event
--   {ns}:cache:purges     sorted set: <pod> LF <rule>, by position
--   {ns}:cache:gone       sorted set: <pod> LF <cache key>, by position: what was invalidated in the last minute
--   {ns}:cache:e:<hash>   hash: the variants of one cache key. Each field is named by a hash of its selecting values,
--                         its value begins with when it was written; 'order' names them, newest first; 'gone' is
--                         when the key was invalidated last: <position> <pod> <round>
--   {ns}:cache:events     channel: the position of each event
--
-- A key that holds something else than it should is overwritten: nobody has to clean up.

local DAY, MONTH, MINUTE = 86400 * 1000000, 30 * 86400, 60
local PURGES_KEPT, GONE_KEPT, ENTRY_BYTES = 1000, 4096, 8 * 1024 * 1024

local prefix = string.sub(KEYS[1], 1, -2)
local time = redis.call('TIME')
local micro = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function text(value) return string.format('%016.0f', value) end

local function newest()
  local found = redis.pcall('ZREVRANGE', prefix .. 'purges', 0, 0, 'WITHSCORES')
  return not found.err and found[2] and text(tonumber(found[2])) or '0'
end

if ARGV[1] == 'read' then
  local fields = redis.pcall('HGETALL', prefix .. 'e:' .. ARGV[2])
  return {text(micro), newest(), fields.err and 'garbage' or fields}
end

-- ARGV: 'exchange', pod, round, the position known to the pod, how many variants a key may have; then what the pod
-- wants, each by a letter and what belongs to it.

local pod, round, known, most = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local function owned(name, kind)
  local key = prefix .. name
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
  return key
end

-- A full Redis refuses the first write of a script that may need memory, and none that comes after another. So it is
-- asked first: purges are kept all the same, answers are not.
local asked = redis.pcall('APPEND', KEYS[1], '')
local full = type(asked) == 'table' and string.find(asked.err, 'OOM') ~= nil

local version = owned('v', 'string')
local purges, gone = owned('purges', 'zset'), owned('gone', 'zset')
-- Nothing from the far future is believed.
redis.call('ZREMRANGEBYSCORE', purges, '(' .. text(micro + DAY), '+inf')
redis.call('ZREMRANGEBYSCORE', purges, '-inf', text(micro - MONTH * 1000000))
redis.call('ZREMRANGEBYSCORE', gone, '(' .. text(micro + DAY), '+inf')
redis.call('ZREMRANGEBYSCORE', gone, '-inf', text(micro - MINUTE * 1000000))

local last = tonumber(redis.call('GET', version))
local lost = not last or last > micro + DAY
if lost then last = 0 end
last = math.max(last, tonumber(newest()))
-- A server that took over with a clock that is behind goes on where the other one was.
if known > last and known <= micro + DAY then last, lost = known, true end
local position = nil

-- The position of what happens in this call.
local function happens()
  position = position or math.max(micro, last + 1)
  return position
end

local function add(log, member, at, kept)
  redis.call('ZADD', log, 'GT', text(at), member)
  redis.call('EXPIRE', log, MONTH)
  local excess = redis.call('ZCARD', log) - kept
  if excess <= 0 then return end
  local dropped = redis.call('ZRANGE', log, excess - 1, excess - 1, 'WITHSCORES')
  redis.call('ZREMRANGEBYRANK', log, 0, excess - 1)
  -- In the place of forgotten purges stands one of everything.
  if log == purges then redis.call('ZADD', log, 'GT', dropped[2], '\n') end
end

local function order_of(key)
  local names = {}
  for name in string.gmatch(redis.call('HGET', key, 'order') or '', '%x+') do names[#names + 1] = name end
  return names
end

local function invalidated(key, cache_key, held)
  redis.call('HSET', key, 'gone', text(happens()) .. ' ' .. pod .. ' ' .. round)
  redis.call('PEXPIRE', key, math.max(redis.call('PTTL', key), MINUTE * 1000))
  if held then add(gone, pod .. '\n' .. cache_key, happens(), GONE_KEPT) end
end

local function entry(hash)
  return owned('e:' .. hash, 'hash')
end

local function clear(hash, cache_key)
  local key = entry(hash)
  local held = redis.call('HEXISTS', key, 'order') == 1
  redis.call('DEL', key)
  invalidated(key, cache_key, held)
end

local function drop(hash, cache_key, variant)
  local key, left = entry(hash), {}
  local held = redis.call('HDEL', key, variant) == 1
  for _, name in ipairs(order_of(key)) do
    if name ~= variant then left[#left + 1] = name end
  end
  if #left > 0 then redis.call('HSET', key, 'order', table.concat(left, ' ')) else redis.call('HDEL', key, 'order') end
  invalidated(key, cache_key, held)
end

-- A fetch that began before the key was invalidated loses, unless its pod invalidated it, and did so before.
local function loses(key)
  local at, by, its_round = string.match(redis.call('HGET', key, 'gone') or '', '^(%d+) (%S+) (%d+)$')
  return at and tonumber(at) > known and not (by == pod and tonumber(its_round) <= round)
end

local function store(hash, variant, ttl, value)
  local key = entry(hash)
  if loses(key) then return 'refused' end
  if full then
    -- What it would have replaced is not to be served either.
    redis.call('DEL', key)
    return 'failed'
  end
  local names, bytes = {variant}, #value
  for _, name in ipairs(order_of(key)) do
    if name ~= variant then
      bytes = bytes + redis.call('HSTRLEN', key, name)
      if #names < most and bytes <= ENTRY_BYTES then
        names[#names + 1] = name
      else
        redis.call('HDEL', key, name)
      end
    end
  end
  redis.call('HSET', key, variant, text(micro) .. value, 'order', table.concat(names, ' '))
  redis.call('PEXPIRE', key, math.max(redis.call('PTTL', key), ttl))
  return 'stored'
end

local results, at = {}, 6
local function take()
  at = at + 1
  return ARGV[at - 1]
end
while at <= #ARGV do
  local letter = take()
  if letter == 'P' then
    add(purges, pod .. '\n' .. take(), happens(), PURGES_KEPT)
  elseif letter == 'R' then
    -- A purge that Redis has forgotten, and somebody has not.
    local score = tonumber(take())
    add(purges, '\n' .. take(), score, PURGES_KEPT)
    happens()
  elseif letter == 'C' then
    local hash = take()
    clear(hash, take())
  elseif letter == 'D' then
    local hash, cache_key = take(), take()
    drop(hash, cache_key, take())
  else
    local hash, variant, ttl = take(), take(), tonumber(take())
    results[#results + 1] = store(hash, variant, ttl, take())
  end
end

if position or lost then
  last = position or math.max(last, micro)
  redis.call('SET', version, text(last), 'EX', MONTH)
  if position then redis.pcall('PUBLISH', prefix .. 'events', text(last)) end
else
  redis.call('EXPIRE', version, MONTH)
end
local since = '(' .. text(known)
return {
  text(last), newest(), results,
  redis.call('ZRANGEBYSCORE', purges, since, '+inf', 'WITHSCORES'),
  redis.call('ZRANGEBYSCORE', gone, since, '+inf'),
}
