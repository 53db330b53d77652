-- KEYS run, active
-- ARGV run, hold, prefix of locks, prefix of runs, number of servers, the servers, then run and hold of each other run that
-- the caller saw lapse
-- Takes the locks on all of the servers, or none: returns {run, hold, ...} of the other runs that have some, or false.
local run, count = ARGV[1], tonumber(ARGV[5])
local named, keys = table.concat(ARGV, '\n', 6, 5 + count), {}
for i = 6, 5 + count do keys[#keys + 1] = ARGV[3] .. ARGV[i] end
local owners, ours = count > 0 and redis.call('MGET', unpack(keys)) or {}, count > 0
for i = 1, count do ours = ours and owners[i] == run end
if ours and holder_of(redis.call('HGET', KEYS[1], 'lock')) == run and redis.call('SISMEMBER', KEYS[2], run) == 1 then
  redis.call('HSET', KEYS[1], 'lock', ARGV[2]) -- a renewal: two commands, whatever the number of servers is
  return false
end
local lapsed, held, gone = {}, {}, {}
for i = 6 + count, #ARGV, 2 do lapsed[ARGV[i]] = ARGV[i + 1] end
for i = 1, count do
  local other = owners[i]
  if other and other ~= run and not gone[other] then
    local hold = redis.pcall('HGET', ARGV[4] .. other, 'lock')
    gone[other] = true
    if holder_of(hold) == other and lapsed[other] ~= hold then
      held[#held + 1] = other
      held[#held + 1] = hold
    end
  end
end
if #held > 0 then
  -- A run that does not have all of its servers has none of them.
  redis.call('HDEL', KEYS[1], 'lock')
  return held
end
-- The caller may have read the run before it was concluded.
if redis.call('SISMEMBER', KEYS[2], run) == 1 and opened(KEYS[1]) then
  for other in pairs(gone) do redis.call('HDEL', ARGV[4] .. other, 'lock') end
  for i = 6, 5 + count do redis.call('SET', ARGV[3] .. ARGV[i], run) end
  redis.call('HSET', KEYS[1], 'locked', '1', 'servers', named, 'lock', ARGV[2])
end
return false
