-- Comes before each script. No script reads the server's clock: it may be wrong.
local function whole(number)
  return string.format('%.0f', number)
end

-- What a script needs of a run, in one read: field -> text or false; nil when there is no such run.
local function opened(run, ...)
  local names = { 'version', 'pulse', ... }
  local values, state = redis.call('HMGET', run, unpack(names)), {}
  if not values[1] then return nil end
  for i, name in ipairs(names) do state[name] = values[i] end
  return state
end

-- Writes fields and values to a run, in one write. It is progress: observers see that the pulse has changed.
local function beat(run, state, ...)
  redis.call('HSET', run, 'pulse', whole((tonumber(state.pulse) or 0) + 1), ...)
end

-- The holder in a hold (workers/store/holds.py); nil for no hold, and for any other value.
local function holder_of(hold)
  if type(hold) ~= 'string' then return nil end
  return string.match(hold, '^%x+ %d+ (.*)$')
end

-- The flags of a run, by name; `state` has its field 'flags'.
local function flags_of(state)
  return state.flags and cjson.decode(state.flags) or {}
end

-- Whether a run has the locks on its servers: it gets all of them or none (lock.lua). `state` has its field 'lock'.
local function has_servers(state, id)
  return holder_of(state.lock) == id
end

-- Removes the locks of a run.
local function unlock(run, id, locks)
  redis.call('HDEL', run, 'lock')
  for server in string.gmatch(redis.call('HGET', run, 'servers') or '', '[^\n]+') do
    if redis.pcall('GET', locks .. server) == id then redis.call('DEL', locks .. server) end
  end
end
