-- Comes before each script. Only the id of an event uses the time (chain.lua): the server's clock may be wrong.
local function whole(number)
  return string.format('%.0f', number)
end

-- Progress: observers of a run see that the value has changed.
local function beat(run)
  redis.pcall('HINCRBY', run, 'pulse', 1)
end

local function missing(run)
  return redis.call('EXISTS', run) == 0
end

-- The holder in a hold (workers/store/holds.py); nil for no hold, and for any other value.
local function holder_of(hold)
  if type(hold) ~= 'string' then return nil end
  return string.match(hold, '^%x+ %d+ (.*)$')
end

-- Whether a run that had the lock on its cluster does not have it any more.
local function lost_cluster(run, id, locks)
  local known = redis.call('HMGET', run, 'locked', 'cluster')
  if not known[1] or not known[2] then return false end
  return holder_of(redis.pcall('GET', locks .. known[2])) ~= id
end
