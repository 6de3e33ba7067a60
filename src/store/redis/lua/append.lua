-- Applies a batch to its partition and appends it to the feed, once.
--
-- KEYS: state, feed, events, then line and gone of each event.
-- ARGV: clock, feed age in ms, feed batches, horizon of removals (a span), base of the keys,
--       node, number of the batch, its bytes, how many events, their names, then steps: index of the
--       event, 'j' or 'r', how many tickets, and their scores and ids.
-- A step has each ticket at most once and few enough of them for one call.
local state, feed, events = KEYS[1], KEYS[2], KEYS[3]
local now = clock(ARGV[1])
local node, number = 'n' .. ARGV[6], ARGV[7]

local function ids_of(from, count)
  local ids = {}
  for k = 1, count do
    ids[k] = ARGV[from + 2 * k - 1]
  end
  return ids
end

-- Whether a removal's score is that of a ticket that entered: nothing else counts after that.
local function is_inside(score)
  return score and tonumber(score) % 1 == 0.5 or false
end

-- A join counts unless it is not later than the newest removal; the earliest counts.
local function join(event, line, gone, from, count)
  redis.call('ZADD', events, 'NX', 'inf', event)
  if redis.call('EXISTS', gone) == 0 then
    redis.call('ZADD', line, 'LT', unpack(ARGV, from, from + 2 * count - 1))
    return
  end
  local removed = redis.call('ZMSCORE', gone, unpack(ids_of(from, count)))
  local joined = {}
  for k = 1, count do
    local score, id = ARGV[from + 2 * k - 2], ARGV[from + 2 * k - 1]
    local over = removed[k] and tonumber(score) <= math.floor(tonumber(removed[k]))
    if not over and not is_inside(removed[k]) then
      joined[#joined + 1] = score
      joined[#joined + 1] = id
    end
  end
  if #joined > 0 then
    redis.call('ZADD', line, 'LT', unpack(joined))
  end
end

-- The newest removal counts, of one moment the greater kind (a part of the score below 1), and ends
-- what arrived until then; that of who entered counts before all others, and ends everything.
local function remove(event, line, gone, from, count)
  local ids = ids_of(from, count)
  local removed = redis.call('ZMSCORE', gone, unpack(ids))
  local arrived = redis.call('ZMSCORE', line, unpack(ids))
  local news, ended, oldest = {}, {}, math.huge
  for k, id in ipairs(ids) do
    local score = tonumber(ARGV[from + 2 * k - 2])
    local at, inside = math.floor(score), is_inside(score)
    local known = removed[k] and tonumber(removed[k])
    oldest = math.min(oldest, at)
    if inside == is_inside(known) and (not known or score > known) or inside and not is_inside(known) then
      news[#news + 1] = ARGV[from + 2 * k - 2]
      news[#news + 1] = id
    end
    if arrived[k] and (inside or tonumber(arrived[k]) <= at) then
      ended[#ended + 1] = id
    end
  end
  if #news > 0 then
    redis.call('ZADD', gone, unpack(news))
  end
  if #ended > 0 then
    redis.call('ZREM', line, unpack(ended))
  end
  redis.call('ZADD', events, 'LT', text(oldest), event)
end

-- Forgets removals that are old enough: some of some events, so that no call is long.
local function forget(horizon, base)
  local due = redis.call('ZRANGE', events, '-inf', text(horizon), 'BYSCORE', 'LIMIT', 0, 4)
  for _, event in ipairs(due) do
    local gone = base .. 'gone:' .. event
    local old = redis.call('ZRANGE', gone, '-inf', '(' .. text(horizon + 1), 'BYSCORE', 'LIMIT', 0, 500)
    if #old > 0 then
      redis.call('ZREM', gone, unpack(old))
    end
    local oldest = redis.call('ZRANGE', gone, 0, 0, 'WITHSCORES')[2]
    if oldest then
      redis.call('ZADD', events, text(math.floor(tonumber(oldest))), event)
    elseif redis.call('EXISTS', base .. 'line:' .. event) == 1 then
      redis.call('ZADD', events, 'inf', event)
    else
      redis.call('ZREM', events, event)
    end
  end
end

local at = 10 + tonumber(ARGV[9])
while ARGV[at] do
  local index, kind, count = tonumber(ARGV[at]), ARGV[at + 1], tonumber(ARGV[at + 2])
  local apply = kind == 'j' and join or remove
  apply(ARGV[9 + index], KEYS[2 + 2 * index], KEYS[3 + 2 * index], at + 3, count)
  at = at + 3 + 2 * count
end
forget(math.max(now - tonumber(ARGV[4]), 0), ARGV[5])

-- A node sends a partition's batches one after the other, so one that is sent again is its last. The
-- number of the one before is answered: if it is not what was acknowledged, writes were lost.
local last = redis.call('HGET', state, node)
local before = ''
if last then
  local seen, position = string.match(last, '^(%S+) (%S+)$')
  if seen == number then
    return { position, seen }
  end
  before = seen or ''
end
local position = publish(state, feed, ARGV[1], now, tonumber(ARGV[2]), ARGV[3], 'b', ARGV[8])
redis.call('HSET', state, node, number .. ' ' .. position)
return { position, before }
