-- What all steps of a gate share: the state machine of the gate, rule by rule as in the store that
-- runs in the process, on the clock of this server.
--
-- KEYS: state, feed, gates, gate, called, missed, active, entered.
-- ARGV: clock, feed age in ms, feed batches, event, node, then the policy: rate, burst, cap, paused,
--       ready, late grace, ticket and pass ttl, nodes that share, for how long.
local KEY = {
  state = KEYS[1], feed = KEYS[2], gates = KEYS[3], gate = KEYS[4], called = KEYS[5],
  missed = KEYS[6], active = KEYS[7], entered = KEYS[8],
}
local TURN = 1000000
local LEASE_DROPPED_AFTER = 60000000
local CLOCK_BACK_MAX = 60000000
local SAME_TURN = 200000
local LAPSES_MAX = 4096
local SILENT_AFTER = 2000000
local FREED_AFTER = 30000000
local LOST_AT_MOST = 120000000
local LIFE = 4294967296
local CALLED, MISSED, ENTERED = 3, 4, 9

local now = clock(ARGV[1])
local event, node = ARGV[4], ARGV[5]
local policy = {
  rate = tonumber(ARGV[6]), burst = tonumber(ARGV[7]), max_active = tonumber(ARGV[8]),
  paused = ARGV[9] == '1', ready_ttl = tonumber(ARGV[10]), late_grace = tonumber(ARGV[11]),
  ticket_ttl = tonumber(ARGV[12]), pass_ttl = tonumber(ARGV[13]),
  nodes = tonumber(ARGV[14]), share_limit = tonumber(ARGV[15]),
}

-- The bucket: micro-turns, when it began and was last filled (0: never), turns until when were given
-- before it began, at which rate, leases by node, and which of how many nodes go on by themselves when
-- they are cut off.
local bucket = {
  level = 0, began = 0, inherited = 0, filled_at = 0, rate = 0, version = 0, nodes = 0,
  leases = {}, shares = {},
}
-- The fields as they were read; nil before.
local before = nil
-- This life of the server. What was written in another may have fallen back: to a copy, to a file.
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
local take_over

local function load()
  if before then
    return
  end
  before = {}
  local fields = redis.call('HGETALL', KEY.gate)
  for k = 1, #fields, 2 do
    local name, value = fields[k], fields[k + 1]
    before[name] = value
    local kind = string.sub(name, 1, 6)
    if kind == 'lease:' then
      local serial, held, asked_at = string.match(value, '^(%d+) (%d+) (%d+)$')
      bucket.leases[string.sub(name, 7)] =
        { serial = tonumber(serial), held = tonumber(held), asked_at = tonumber(asked_at) }
    elseif kind == 'share:' then
      local asked_at, horizon, free_at = string.match(value, '^(%d+) (%d+) (%d+)$')
      bucket.shares[string.sub(name, 7)] =
        { asked_at = tonumber(asked_at), horizon = tonumber(horizon), free_at = tonumber(free_at) }
    else
      bucket[name] = tonumber(value)
    end
  end
  if before.run ~= run and bucket.filled_at > 0 then
    take_over()
  end
end

local dropped, freed = {}, {}
-- How many shares are out.
local silent = 0
local records = {}

-- Notes what the feed shall say.
local function note(kind, id, at)
  records[#records + 1] = string.char(kind) .. id .. struct.pack('>I8', at)
end

-- Writes what changed of the bucket.
local function save()
  local fields = {}
  local function put(name, value)
    if before[name] ~= value then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  put('level', text(bucket.level))
  put('run', run)
  put('began', text(bucket.began))
  put('inherited', text(bucket.inherited))
  put('filled_at', text(bucket.filled_at))
  put('rate', string.format('%.17g', bucket.rate))
  put('version', text(bucket.version))
  put('nodes', text(bucket.nodes))
  for name, lease in pairs(bucket.leases) do
    put('lease:' .. name, text(lease.serial) .. ' ' .. text(lease.held) .. ' ' .. text(lease.asked_at))
  end
  for name, share in pairs(bucket.shares) do
    put('share:' .. name, text(share.asked_at) .. ' ' .. text(share.horizon) .. ' ' .. text(share.free_at))
  end
  for name in pairs(dropped) do
    if not bucket.leases[name] then
      redis.call('HDEL', KEY.gate, 'lease:' .. name)
    end
  end
  for name in pairs(freed) do
    if not bucket.shares[name] then
      redis.call('HDEL', KEY.gate, 'share:' .. name)
    end
  end
  if #fields > 0 then
    redis.call('HSET', KEY.gate, unpack(fields))
  end
  if not before.version then
    redis.call('SADD', KEY.gates, event)
  end
end

-- Writes what the step changed: the bucket if it was looked at, or is new, and the feed's entry if
-- there is something to say.
local function finish()
  local version = not before and redis.call('HGET', KEY.gate, 'version')
  if not version then
    load()
    save()
    version = text(bucket.version)
  end
  if #records > 0 then
    publish(KEY.state, KEY.feed, ARGV[1], now, tonumber(ARGV[2]), ARGV[3], 'g', event,
      'r', struct.pack('>I2I8I8', tonumber(node), tonumber(version), now) .. table.concat(records))
  end
end

-- Calls a command with many arguments, some at a time; an even number, since pairs stay together.
local function bulk(command, key, list)
  for from = 1, #list, 1000 do
    redis.call(command, key, unpack(list, from, math.min(from + 999, #list)))
  end
end

local function scores(key, ids)
  local all = {}
  for from = 1, #ids, 1000 do
    local some = redis.call('ZMSCORE', key, unpack(ids, from, math.min(from + 999, #ids)))
    for k = 1, #some do
      all[from + k - 1] = some[k]
    end
  end
  return all
end

-- Takes out what is not after the moment, the earliest first; answers the ids, and their moments.
local function pop(key, moment)
  local moment = text(math.max(moment, 0))
  local found = redis.call('ZRANGE', key, '-inf', moment, 'BYSCORE', 'LIMIT', 0, LAPSES_MAX, 'WITHSCORES')
  local ids, scores = {}, {}
  for k = 1, #found, 2 do
    ids[#ids + 1], scores[#scores + 1] = found[k], tonumber(found[k + 1])
  end
  bulk('ZREM', key, ids)
  return ids, scores
end

local function lapsed(till)
  return till + LAPSE_GRACE <= now
end

local function leased()
  local held = 0
  for _, lease in pairs(bucket.leases) do
    held = held + lease.held
  end
  return held
end

-- What one node may save up while it is away.
local function share_saved()
  local nodes = math.max(bucket.nodes, 1)
  return math.floor(math.min(policy.rate * 2e5 / nodes + 1e6, policy.burst * 1e6 / nodes))
end

-- What the bucket may hold: the burst without what is leased, and without what nodes that are away may
-- have saved up.
local function room()
  return math.max(math.max(policy.burst - leased(), 0) * TURN - silent * share_saved(), 0)
end

local function is_silent(share)
  return share.asked_at + SILENT_AFTER <= now
end

-- Whether its tickets are passed over. A gate that has just begun, after all was lost, waits for the
-- nodes first: those that are there say so at once.
local function is_away(share)
  local begins = now >= bucket.began and now < bucket.began + SILENT_AFTER
  return is_silent(share) and not begins
end

local function count_silent()
  silent = 0
  for _, share in pairs(bucket.shares) do
    if is_silent(share) then
      silent = silent + 1
    end
  end
end

-- Counts who is away. While nobody could ask at all, nobody was missing in particular; a clock that
-- went back says nothing of how long anybody was silent.
local function look_around()
  local gap = math.max(now - bucket.filled_at, 0)
  for _, share in pairs(bucket.shares) do
    if gap > SILENT_AFTER then
      share.free_at = share.free_at + gap
    end
    if share.asked_at > now then
      share.asked_at = math.max(now - SILENT_AFTER, 0)
    end
  end
  count_silent()
end

-- A gate that lost all it knew: any node may be going by itself until it is heard.
local function presume()
  bucket.nodes = policy.nodes
  for k = 0, policy.nodes - 1 do
    bucket.shares[text(k)] = {
      asked_at = math.max(now - SILENT_AFTER, 0), horizon = 0,
      free_at = now + policy.share_limit + FREED_AFTER,
    }
  end
  count_silent()
end

-- Begins with nothing, and what was given before comes back to nobody.
local function begin_empty()
  local last = redis.call('ZRANGE', KEY.called, -1, -1, 'WITHSCORES')[2]
  bucket.level = math.min(bucket.level, 0)
  bucket.filled_at = math.max(now, 1)
  bucket.began = bucket.filled_at
  bucket.inherited = math.max(tonumber(last or 0), now + policy.ready_ttl)
  -- Whatever the clock of before said.
  for _, lease in pairs(bucket.leases) do
    lease.asked_at = math.min(lease.asked_at, bucket.began - 1)
  end
end

-- Begins the life after all that are known of.
local function begin_life(known)
  bucket.version = (math.floor(math.max(bucket.version, known) / LIFE) + 1) * LIFE
end

take_over = function()
  look_around()
  begin_empty()
  begin_life(0)
end

local function is_inherited(till)
  return till <= bucket.inherited
end

-- Microseconds since the last filling in which nodes were away, summed over the nodes.
local function away(at)
  local sum = 0
  for _, share in pairs(bucket.shares) do
    sum = sum + math.max(at - math.max(share.asked_at + SILENT_AFTER, bucket.filled_at), 0)
  end
  return sum
end

local function refund(turns)
  bucket.level = math.min(bucket.level + turns * TURN, room())
end

-- A turn a second is a micro-turn a microsecond. What uses up no whole one is left for the next time;
-- a clock that went back adds nothing; a new rate counts from when the gate hears of it. What nodes
-- that are away may be giving is not paid here.
local function gain(at)
  local elapsed = math.max(at - bucket.filled_at, 0)
  local gained, accounted = 0, elapsed
  if bucket.rate > 0 then
    local missing = away(at)
    local paid = bucket.rate * elapsed
    if missing > 0 then
      paid = bucket.rate * math.max(elapsed * bucket.nodes - missing, 0) / bucket.nodes
    end
    -- No time pays nothing at any rate: infinity times 0 is not a number.
    gained = paid == paid and math.min(math.floor(paid), 9223372036854775807) or 0
    if missing == 0 then
      accounted = math.min(math.ceil(gained / bucket.rate), elapsed)
    end
  end
  return gained, accounted
end

-- The rate of who asks counts from now on if it is heeded.
local function refill(heeded)
  local gained, accounted = gain(now)
  look_around()
  local first = bucket.filled_at == 0
  if first then
    gained = room()
    bucket.began = now
  end
  bucket.level = math.min(bucket.level + gained, room())
  if first or bucket.filled_at - now > CLOCK_BACK_MAX then
    bucket.began = math.min(bucket.began, now)
    bucket.filled_at = math.max(now, 1)
  elseif heeded and bucket.rate ~= policy.rate then
    bucket.filled_at = math.max(bucket.filled_at, now)
  else
    bucket.filled_at = bucket.filled_at + accounted
  end
  if first or heeded then
    bucket.rate = policy.rate
  end
end

-- A ticket has a turn again, or needs none: what it missed is forgotten.
local function forgive(id)
  redis.call('ZREM', KEY.missed, id)
end

-- The late grace begins with the turn's end, whenever that is noticed.
local function miss(id, till)
  redis.call('ZADD', KEY.missed, text(till + policy.late_grace), id)
  note(MISSED, id, till)
end

-- Notes that a ticket entered, and is inside for as long as its pass holds.
local function inside(id, at)
  redis.call('ZADD', KEY.entered, text(at), id)
  local till = pass_until(at, policy.ready_ttl, policy.pass_ttl)
  if till > now then
    redis.call('ZADD', KEY.active, text(till), id)
  end
  note(ENTERED, id, at)
end

-- Books a turn that a node gave out of its lease; without a lease the bucket pays, below zero if it
-- must. False for one that lapsed before it was heard of, and one that nobody can have given.
local function claim(id, till, by)
  if redis.call('ZSCORE', KEY.called, id) or redis.call('ZSCORE', KEY.entered, id) then
    return true
  end
  if lapsed(till) or till > now + policy.ready_ttl + LAPSE_GRACE then
    return false
  end
  -- Given back: turns are named by their ends.
  local missed = redis.call('ZSCORE', KEY.missed, id)
  if missed and math.abs(tonumber(missed) - till - policy.late_grace) < SAME_TURN then
    return false
  end
  load()
  if bucket.filled_at > 0 then
    refill(false)
  end
  local lease = bucket.leases[by]
  if lease and lease.held > 0 then
    lease.held = lease.held - 1
  else
    bucket.level = bucket.level - TURN
  end
  redis.call('ZADD', KEY.called, text(till), id)
  note(CALLED, id, till)
  forgive(id)
  return true
end

