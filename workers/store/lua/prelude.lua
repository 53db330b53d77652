-- Put before each script. No script asks for the time but to name an event (chain.lua): the server's clock may be wrong.
local function whole(number)
  return string.format('%.0f', number)
end

-- A sign of life: those who watch a run see that this has changed.
local function beat(run)
  redis.pcall('HINCRBY', run, 'pulse', 1)
end

local function missing(run)
  return redis.call('EXISTS', run) == 0
end

-- Who a hold belongs to (workers/store/holds.py); nil for none, and for anything else that stands in its place.
local function holder_of(hold)
  if type(hold) ~= 'string' then return nil end
  return string.match(hold, '^%x+ %d+ (.*)$')
end

-- Whether a run that had taken its cluster for itself does not have it any more.
local function astray(run, id, locks)
  local known = redis.call('HMGET', run, 'locked', 'cluster')
  if not known[1] or not known[2] then return false end
  return holder_of(redis.pcall('GET', locks .. known[2])) ~= id
end
