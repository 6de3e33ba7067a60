-- Lets in tickets whose turn it is, as `enter` would, together; whatever else there is to say of a
-- ticket is left to that. Most who enter come in here: it is short for that reason.
--
-- KEYS: state, feed, called, missed, active, entered.
-- ARGV: clock, feed age in ms, feed batches, event, node, how long turns are kept and passes hold,
--       then of each ticket the id, when it joined, and whether it needs no turn.
-- Answers of each the moment of its entry; 0: that is left to `enter`.
local ENTERED = 9
local now, ready_ttl, pass_ttl = clock(ARGV[1]), tonumber(ARGV[6]), tonumber(ARGV[7])
local ids = {}
for k = 8, #ARGV, 3 do
  ids[#ids + 1] = ARGV[k]
end
local turns = redis.call('ZMSCORE', KEYS[3], unpack(ids))
local entered = redis.call('ZMSCORE', KEYS[6], unpack(ids))

local answers, seen, inside, entries, ends, records = {}, {}, {}, {}, {}, {}
for k, id in ipairs(ids) do
  local open = turns[k] and tonumber(turns[k]) + LAPSE_GRACE > now
  local ordinary = open and not entered[k] and not seen[id]
  answers[k] = '0'
  if ordinary then
    seen[id] = true
    local free = ARGV[7 + 3 * k] == '1'
    local at = entry_at(now, tonumber(ARGV[6 + 3 * k]), not free and tonumber(turns[k]) or nil, ready_ttl)
    answers[k] = text(at)
    local n = #inside
    inside[n + 1] = id
    entries[2 * n + 1], entries[2 * n + 2] = text(at), id
    ends[2 * n + 1], ends[2 * n + 2] = text(pass_until(at, ready_ttl, pass_ttl)), id
    records[n + 1] = string.char(ENTERED) .. id .. struct.pack('>I8', at)
  end
end
if #inside > 0 then
  redis.call('ZREM', KEYS[3], unpack(inside))
  redis.call('ZREM', KEYS[4], unpack(inside))
  redis.call('ZADD', KEYS[5], unpack(ends))
  redis.call('ZADD', KEYS[6], unpack(entries))
  -- The version is not looked up for this: it stays what it was, and the greatest counts.
  publish(KEYS[1], KEYS[2], ARGV[1], now, tonumber(ARGV[2]), ARGV[3], 'g', ARGV[4],
    'r', struct.pack('>I2I8I8', tonumber(ARGV[5]), 0, now) .. table.concat(records))
end
return { text(now), answers }
