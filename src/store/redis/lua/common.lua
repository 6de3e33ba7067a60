-- Numbers go in and out as text: Redis would cut what a script returns to an integer by itself, and
-- doubles hold every microsecond and micro-turn exactly up to 2^53.
local function text(number)
  return string.format('%.0f', number)
end

-- Microseconds on the server's clock, or what a test says instead.
local function clock(given)
  if given ~= '' then
    return tonumber(given)
  end
  local now = redis.call('TIME')
  return now[1] * 1000000 + now[2]
end

-- Appends an entry to the feed and drops what is too old or too much; what is too old with the first
-- entry of each second, by the clock of the entries. Each entry names the one before it, so that a
-- reader who was away sees whether anything between was dropped.
local function publish(state, feed, given, now, age_ms, batches_max, ...)
  local last = redis.call('HGET', state, 'end') or '0-0'
  local last_ms = tonumber(string.match(last, '^%d+'))
  local ms = math.floor(now / 1000)
  local id = '*'
  if given ~= '' then
    id = text(math.max(ms, last_ms)) .. '-*'
  end
  local at = redis.call('XADD', feed, 'MAXLEN', batches_max, id, 'p', last, ...)
  redis.call('HSET', state, 'end', at)
  if math.floor(ms / 1000) ~= math.floor(last_ms / 1000) then
    redis.call('XTRIM', feed, 'MINID', text(math.max(ms - age_ms, 0)))
  end
  return at
end

