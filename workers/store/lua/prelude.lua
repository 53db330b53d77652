-- Put before each script. The server's clock is the only one: workers' clocks differ.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function whole(number)
  return string.format('%.0f', number)
end

local function beat(run)
  redis.call('HSET', run, 'pulse', whole(now()))
end

local function missing(run)
  return redis.call('EXISTS', run) == 0
end

-- When a lease ends (0 when there is none), and who holds it (nil when nobody does).
local function lease(leases, node)
  local held = redis.call('HGET', leases, node)
  if not held then return 0, nil end
  local ends, holder = string.match(held, '^(%d+) (.*)$')
  return tonumber(ends), holder
end

local function hold(leases, node, holder, milliseconds)
  redis.call('HSET', leases, node, whole(now() + milliseconds) .. ' ' .. holder)
end

-- How many leases have not lapsed.
local function live(leases)
  local time, count = now(), 0
  for _, held in ipairs(redis.call('HVALS', leases)) do
    if tonumber(string.match(held, '^%d+')) > time then count = count + 1 end
  end
  return count
end
