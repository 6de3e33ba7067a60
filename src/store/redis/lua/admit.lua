-- Lets in tickets whose turn it is, as `enter` would, together; whatever else there is to say of a
-- ticket is left to that. Most who enter come in here: it is short for that reason.
--
-- KEYS: state, feed, called, missed, active, entered, pass, ends.
-- ARGV: clock, feed age in ms, feed batches, event, node, how long a pass holds, then of each ticket
--       the id and what the pass is made from.
local LAPSE_GRACE, ENTERED = 1000000, 9
local now = clock(ARGV[1])
local ids = {}
for k = 7, #ARGV, 2 do
  ids[#ids + 1] = ARGV[k]
end
local turns = redis.call('ZMSCORE', KEYS[3], unpack(ids))
local entered = redis.call('ZMSCORE', KEYS[6], unpack(ids))
local passes = redis.call('HMGET', KEYS[7], unpack(ids))

local at, till = text(now), text(now + tonumber(ARGV[6]))
local answers, seen, inside, entries, ends, written, records = {}, {}, {}, {}, {}, {}, {}
for k, id in ipairs(ids) do
  local open = turns[k] and tonumber(turns[k]) + LAPSE_GRACE > now
  local ordinary = open and not entered[k] and not passes[k] and not seen[id]
  answers[k] = ordinary and 1 or 0
  if ordinary then
    seen[id] = true
    local n = #inside
    inside[n + 1] = id
    entries[2 * n + 1], entries[2 * n + 2] = at, id
    ends[2 * n + 1], ends[2 * n + 2] = till, id
    written[2 * n + 1], written[2 * n + 2] = id, ARGV[6 + 2 * k]
    records[n + 1] = string.char(ENTERED) .. id .. struct.pack('>I8', now)
  end
end
if #inside > 0 then
  redis.call('ZREM', KEYS[3], unpack(inside))
  redis.call('ZREM', KEYS[4], unpack(inside))
  redis.call('ZADD', KEYS[5], unpack(ends))
  redis.call('ZADD', KEYS[6], unpack(entries))
  redis.call('HSET', KEYS[7], unpack(written))
  redis.call('ZADD', KEYS[8], unpack(ends))
  -- The version is not looked up for this: it stays what it was, and the greatest counts.
  publish(KEYS[1], KEYS[2], ARGV[1], now, tonumber(ARGV[2]), ARGV[3], 'g', ARGV[4],
    'r', struct.pack('>I2I8I8', tonumber(ARGV[5]), 0, now) .. table.concat(records))
end
return { at, answers }
