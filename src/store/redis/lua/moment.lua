-- What counts as the moment of an entry, and when its pass ends: `entry_at` and `pass_until` of the
-- policy in the store that runs in the process. `till` is the end of the turn; nil: none is needed.
local LAPSE_GRACE = 1000000
local ENTRY_STEP = 30000000
local INSTANT = 2000000

local function entry_step(ready_ttl)
  return math.min(ready_ttl + LAPSE_GRACE, ENTRY_STEP)
end

local function entry_at(now, arrival, till, ready_ttl)
  local given = till and math.max(till - ready_ttl, 0) or arrival
  if given <= arrival + INSTANT then
    given = arrival
  end
  local past = math.max(now - given, 0)
  return given + past - past % entry_step(ready_ttl)
end

local function pass_until(entered, ready_ttl, pass_ttl)
  return entered + entry_step(ready_ttl) + pass_ttl
end
