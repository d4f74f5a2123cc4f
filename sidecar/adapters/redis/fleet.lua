-- The fleet's state in Redis: one operation per call, atomic, by the server's own time.
--
-- KEYS[1] is {namespace}:v; every other key begins like it, so that all lie in one slot of a Cluster. ARGV[1] names the
-- operation, ARGV[2] is its request in JSON. The reply is JSON. Numbers of microseconds are text there, because cjson
-- writes fourteen digits only.
--
--   {ns}:v            epoch-number: the version of all that follows
--   {ns}:changed      sorted set: c:<circuit> and o:<circuit> by the number of their last change
--   {ns}:members      sorted set: pods by when they were last heard of, milliseconds
--   {ns}:who          hash: the version of each pod
--   {ns}:o            hash: the last word of an operator about each circuit
--   {ns}:c:<circuit>  hash: state, round, until, reopenings, …
--   {ns}:b:<circuit>  sorted set: votes, by when they end
--   {ns}:l:<circuit>  sorted set: leases of probes, by when they end
--   {ns}:w:<circuit>  hash: pooled calls, by bucket of time
--   {ns}:events       channel: what changed, as it changes
--
-- A key that holds something else than it should is overwritten: nobody has to clean up.

local DAY, MONTH = 86400, 30 * 86400
local HIGHEST = 9007199254740992

local op, req = ARGV[1], cjson.decode(ARGV[2])
local prefix = string.sub(KEYS[1], 1, -2)
local time = redis.call('TIME')
local micro = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now = math.floor(micro / 1000)

local function number(value, most)
  local found = tonumber(value)
  return found and found >= 0 and found <= (most or HIGHEST) and found or nil
end

local function text(value) return string.format('%.0f', value) end

local function owned(name, kind)
  local key = prefix .. name
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
  return key
end

-- Larger than any before, also than what a pod has seen elsewhere; nothing from the far future is believed.
local function after(...)
  local next = micro
  for _, old in ipairs({...}) do
    if old < micro + DAY * 1000000 then next = math.max(next, old + 1) end
  end
  return next
end

local function version()
  local key = owned('v', 'string')
  local epoch, last = string.match(redis.call('GET', key) or '', '^(%d+)-(%d+)$')
  epoch, last = number(epoch), number(last, micro + DAY * 1000000)
  if not epoch or not last then
    epoch, last = micro, 0
    redis.call('SET', key, text(epoch) .. '-0', 'EX', MONTH)
  end
  return epoch, last
end

local function changed(name, message)
  local epoch, last = version()
  local number_ = after(last)
  redis.call('SET', prefix .. 'v', text(epoch) .. '-' .. text(number_), 'EX', MONTH)
  local log = owned('changed', 'zset')
  redis.call('ZADD', log, text(number_), name)
  redis.call('EXPIRE', log, MONTH)
  message.v = text(epoch) .. '-' .. text(number_)
  message.before = text(epoch) .. '-' .. text(last)
  redis.pcall('PUBLISH', prefix .. 'events', cjson.encode(message))
end

-- Circuits

local STATES = {open = true, half_open = true, closed = true}

local function record(name)
  local held = redis.call('HMGET', owned('c:' .. name, 'hash'), 'state', 'round', 'until', 'n', 'by', 'detail', 'ok')
  local round = number(held[2], micro + DAY * 1000000)
  if not round or not STATES[held[1]] then return {name = name, state = 'closed', round = 0, till = 0, n = 0, ok = 0} end
  return {name = name, state = held[1], round = round, till = number(held[3]) or 0, n = number(held[4], 1000000) or 0,
          by = held[5] or '', detail = held[6] or '', ok = number(held[7]) or 0}
end

local function left(r) return math.max(0, r.till - now) end

local function shown(r)
  return {circuit = r.name, round = text(r.round), state = r.state, left = left(r), n = r.n,
          by = r.by or '', detail = r.detail or ''}
end

local function write(r, state, seen)
  r.round, r.state = after(r.round, number(seen) or 0), state
  local key = prefix .. 'c:' .. r.name
  redis.call('HSET', key, 'state', state, 'round', text(r.round), 'until', text(r.till), 'n', r.n, 'by', r.by,
             'detail', r.detail, 'ok', 0)
  redis.call('EXPIRE', key, DAY + math.ceil(left(r) / 1000))
  redis.call('DEL', prefix .. 'l:' .. r.name)
  if state == 'closed' then redis.call('DEL', prefix .. 'b:' .. r.name) end
end

local function tell(r) changed('c:' .. r.name, {record = shown(r)}) end

local function open(r, period, n, detail, seen)
  r.till, r.n, r.by, r.detail = now + period, n, req.pod, detail
  write(r, 'open', seen)
  tell(r)
end

local function close(r, detail, seen)
  r.till, r.n, r.by, r.detail = 0, 0, req.pod, detail
  write(r, 'closed', seen)
  tell(r)
end

local function members()
  return redis.call('ZCOUNT', owned('members', 'zset'), now - req.ttl, '+inf')
end

local function vote(name, v)
  local votes, r = owned('b:' .. name, 'zset'), record(name)
  if v.ttl == 0 then
    redis.call('ZREM', votes, req.pod)
  elseif not (r.state == 'closed' and r.round > number(v.round)) then
    redis.call('ZADD', votes, now + v.ttl, req.pod)
    redis.call('PEXPIRE', votes, v.ttl + 1000)
  end
  redis.call('ZREMRANGEBYSCORE', votes, '-inf', now)
  -- The list of changes may have been lost while this was not: a fresh pod would not hear of it.
  if r.state ~= 'closed' and not redis.call('ZSCORE', owned('changed', 'zset'), 'c:' .. name) then tell(r) end
  local count = redis.call('ZCARD', votes)
  local needed = math.min(req.quorum, math.max(members(), req.members, 1))
  if r.state == 'closed' and v.left > 0 and v.ttl > 0 and count >= needed and r.round <= number(v.round) then
    open(r, v.left, v.n, v.detail, v.round)
  end
end

local function pooled(name, bucket, counts)
  local key, epoch = owned('w:' .. name, 'hash'), math.floor(now / bucket)
  if counts then
    for place, kind in ipairs({'r', 'f', 's'}) do
      if counts[place] ~= 0 then redis.pcall('HINCRBY', key, text(epoch) .. kind, counts[place]) end
    end
    redis.call('PEXPIRE', key, bucket * 12)
  end
  local sums, held = {r = 0, f = 0, s = 0}, redis.call('HGETALL', key)
  for at = 1, #held, 2 do
    local when, kind = string.match(held[at], '^(%d+)([rfs])$')
    local count = number(held[at + 1])
    if when and count and epoch - tonumber(when) < 10 and tonumber(when) <= epoch then
      sums[kind] = sums[kind] + count
    else
      redis.call('HDEL', key, held[at])
    end
  end
  return {sums.r, sums.f, sums.s}
end

local function beat()
  local pods, who = owned('members', 'zset'), owned('who', 'hash')
  local gone = redis.call('ZRANGEBYSCORE', pods, '-inf', now - req.ttl, 'LIMIT', 0, 200)
  if #gone > 0 then
    redis.call('ZREM', pods, unpack(gone))
    redis.call('HDEL', who, unpack(gone))
  end
  redis.call('ZADD', pods, now, req.pod)
  redis.call('HSET', who, req.pod, req.version)
  redis.call('EXPIRE', pods, DAY)
  redis.call('EXPIRE', who, DAY)
  version()
  for _, name in ipairs({'v', 'changed', 'o'}) do redis.call('EXPIRE', prefix .. name, MONTH) end
  redis.call('ZREMRANGEBYSCORE', owned('changed', 'zset'), '-inf', text(micro - 2 * DAY * 1000000))
end

-- Operators' words

local function word(name)
  local found = redis.call('HGET', owned('o', 'hash'), name)
  local good, held = pcall(cjson.decode, found or '')
  if not good or type(held) ~= 'table' or not number(held.stamp, micro + DAY * 1000000) or type(held.mode) ~= 'string'
     or type(held.reason) ~= 'string' or type(held.actor) ~= 'string' or not number(held.ends) then
    return nil
  end
  return held
end

local function spoken(name, held)
  local rest = held.ends == 0 and -1 or math.max(0, held.ends - now)
  return {circuit = name, stamp = held.stamp, mode = held.mode, reason = held.reason, actor = held.actor, left = rest}
end

local function forget_old_words()
  for _, name in ipairs(redis.call('HKEYS', owned('o', 'hash'))) do
    local held = word(name)
    local over = held and (held.mode == '' or held.ends > 0 and held.ends < now)
    if not held or over and number(held.stamp) < micro - DAY * 1000000 then redis.call('HDEL', prefix .. 'o', name) end
  end
end

-- What changed

local function news(reply)
  local epoch, last = version()
  reply.v = text(epoch) .. '-' .. text(last)
  reply.clock, reply.members, reply.records, reply.words = text(micro), members(), {}, {}
  if reply.v == req.known then return reply end
  local known_epoch, known = string.match(req.known, '^(%d+)-(%d+)$')
  local all = tonumber(known_epoch) ~= epoch or tonumber(known) > last
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', owned('changed', 'zset'), all and '-inf' or '(' .. known, '+inf')) do
    local kind, circuit = string.sub(name, 1, 2), string.sub(name, 3)
    if kind == 'c:' then
      table.insert(reply.records, shown(record(circuit)))
    elseif not all then
      local held = word(circuit)
      if held then table.insert(reply.words, spoken(circuit, held)) end
    end
  end
  if all then
    for _, circuit in ipairs(redis.call('HKEYS', owned('o', 'hash'))) do
      local held = word(circuit)
      if held then table.insert(reply.words, spoken(circuit, held)) end
    end
  end
  return reply
end

-- Operations

local operations = {}

function operations.push()
  if req.beat then beat() end
  local reply = {pooled = {}}
  for _, named in ipairs(req.named) do
    if named.vote then vote(named.circuit, named.vote) end
    local sums = pooled(named.circuit, named.bucket, named.counts)
    local votes = redis.call('ZCOUNT', owned('b:' .. named.circuit, 'zset'), '(' .. now, '+inf')
    table.insert(reply.pooled, {named.circuit, sums[1], sums[2], sums[3], votes})
  end
  return news(reply)
end

function operations.lease()
  local r, seen = record(req.circuit), number(req.round)
  if r.state == 'closed' and r.round >= seen then return {granted = false, record = shown(r), wait = 0} end
  -- Redis lost what the pod knows: the circuit was open, and its period is over there.
  if r.round < seen then r.state, r.till, r.by, r.detail = 'open', 0, req.pod, 'known to ' .. req.pod end
  if r.state == 'open' then
    if left(r) > 0 then return {granted = false, record = shown(r), wait = left(r)} end
    write(r, 'half_open', seen)
    -- Nobody has to be told, but who comes later should hear of it.
    version()
    redis.call('ZADD', owned('changed', 'zset'), text(micro), 'c:' .. r.name)
    redis.call('EXPIRE', prefix .. 'changed', MONTH)
  end
  local leases = owned('l:' .. r.name, 'zset')
  redis.call('ZREMRANGEBYSCORE', leases, '-inf', now)
  if redis.call('ZCARD', leases) >= req.limit then
    local first = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')
    return {granted = false, record = shown(r), wait = math.max(1, tonumber(first[2]) - now)}
  end
  redis.call('ZADD', leases, now + req.lease, req.id)
  redis.call('PEXPIRE', leases, req.lease + 1000)
  return {granted = true, record = shown(r), wait = 0}
end

function operations.verdict()
  local r, leases = record(req.circuit), owned('l:' .. req.circuit, 'zset')
  if req.outcome == 'hold' then
    if req.id ~= '' and redis.call('ZSCORE', leases, req.id) then
      redis.call('ZADD', leases, now + req.left, req.id)
      redis.call('PEXPIRE', leases, req.left + 1000)
    end
    return {record = shown(r)}
  end
  local freed = req.id ~= '' and redis.call('ZREM', leases, req.id) == 1
  local counts = r.round == number(req.round) and (r.state == 'half_open' or r.state == 'open' and left(r) == 0)
  if counts and req.outcome == 'failure' then
    open(r, req.left, req.n, req.detail, req.round)
  elseif counts and req.outcome == 'success' then
    local ok = r.ok + 1
    redis.call('HSET', prefix .. 'c:' .. r.name, 'ok', ok)
    if req.closes or ok >= req.threshold then
      close(r, 'probes succeeded', req.round)
    elseif freed then
      redis.pcall('PUBLISH', prefix .. 'events', cjson.encode({freed = r.name}))
    end
  elseif freed then
    redis.pcall('PUBLISH', prefix .. 'events', cjson.encode({freed = r.name}))
  end
  return {record = shown(r)}
end

function operations.close()
  local r = record(req.circuit)
  if r.state ~= 'closed' then close(r, req.detail, req.round) end
  return {record = shown(r)}
end

function operations.say()
  local held = word(req.circuit)
  local stamp = number(req.stamp) or 0
  if held and stamp > 0 and number(held.stamp) >= stamp then return {word = spoken(req.circuit, held)} end
  if stamp == 0 then stamp = after(held and number(held.stamp) or 0) end
  forget_old_words()
  held = {stamp = text(stamp), mode = req.mode, reason = req.reason, actor = req.actor,
          ends = req.left < 0 and 0 or now + req.left}
  redis.call('HSET', prefix .. 'o', req.circuit, cjson.encode(held))
  redis.call('EXPIRE', prefix .. 'o', MONTH)
  local said = spoken(req.circuit, held)
  changed('o:' .. req.circuit, {word = said})
  return {word = said}
end

function operations.leave()
  redis.call('ZREM', owned('members', 'zset'), req.pod)
  redis.call('HDEL', owned('who', 'hash'), req.pod)
  for _, name in ipairs(req.circuits) do redis.call('ZREM', owned('b:' .. name, 'zset'), req.pod) end
  for _, lease in ipairs(req.leases) do
    if redis.call('ZREM', owned('l:' .. lease[1], 'zset'), lease[2]) == 1 then
      redis.pcall('PUBLISH', prefix .. 'events', cjson.encode({freed = lease[1]}))
    end
  end
  return {}
end

function operations.view()
  local reply = {members = {}, circuits = {}}
  local who = owned('who', 'hash')
  local pods = redis.call('ZREVRANGEBYSCORE', owned('members', 'zset'), '+inf', now - req.ttl, 'WITHSCORES', 'LIMIT', 0,
                          req.most)
  for at = 1, #pods, 2 do
    local since = math.max(0, now - tonumber(pods[at + 1]))
    table.insert(reply.members, {pods[at], redis.call('HGET', who, pods[at]) or '', since})
  end
  for _, asked in ipairs(req.circuits) do
    local name, r = asked[1], record(asked[1])
    table.insert(reply.circuits, {
      record = shown(r),
      voters = redis.call('ZRANGEBYSCORE', owned('b:' .. name, 'zset'), '(' .. now, '+inf', 'LIMIT', 0, req.most),
      probing = redis.call('ZRANGEBYSCORE', owned('l:' .. name, 'zset'), '(' .. now, '+inf', 'LIMIT', 0, req.most),
      pooled = pooled(name, asked[2]),
    })
  end
  return reply
end

return cjson.encode(operations[op]())
