-- Takes what operators ruled, each ruling a text of stamp, when forgotten, and override.
--
-- KEYS: rulings, and those of them that say nothing any more, by when they last changed.
-- ARGV: 1 for a new ruling, 0 for known ones to be merged; up to when rulings that say nothing are
--       dropped; then of each: event, stamp, when forgotten, override, and the stamp it is made for
--       or nothing.
local REVISION = '#'
local new, horizon = ARGV[1] == '1', ARGV[2]
local revision = tonumber(redis.call('HGET', KEYS[1], REVISION) or '0')
local answer = {}
for k = 3, #ARGV, 5 do
  local event, stamp, forgotten = ARGV[k], tonumber(ARGV[k + 1]), tonumber(ARGV[k + 2])
  local patch, over = ARGV[k + 3], ARGV[k + 4]
  local before = redis.call('HGET', KEYS[1], event) or '0 0 '
  local known, known_forgotten, known_patch = string.match(before, '^(%d+) (%d+) (.*)$')
  known, known_forgotten = tonumber(known), tonumber(known_forgotten)
  if new then
    if over ~= '' and tonumber(over) ~= known then
      return { 0, before }
    end
    stamp = math.max(stamp, revision + 1)
  elseif stamp < known or (stamp == known and patch <= known_patch) then
    stamp, patch = known, known_patch
  end
  forgotten = math.max(forgotten, known_forgotten)
  local ruling = text(stamp) .. ' ' .. text(forgotten) .. ' ' .. patch
  if ruling ~= before then
    revision = math.max(stamp, revision + 1)
    redis.call('HSET', KEYS[1], event, ruling, REVISION, text(revision))
    if patch == '' then
      redis.call('ZADD', KEYS[2], text(math.max(stamp, forgotten)), event)
    else
      redis.call('ZREM', KEYS[2], event)
    end
  end
  answer = { 1, ruling }
end
local silent = redis.call('ZRANGE', KEYS[2], '-inf', horizon, 'BYSCORE', 'LIMIT', 0, 500)
if #silent > 0 then
  redis.call('HDEL', KEYS[1], unpack(silent))
  redis.call('ZREM', KEYS[2], unpack(silent))
end
return answer
