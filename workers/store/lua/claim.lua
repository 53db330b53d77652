-- KEYS run, leases, fences
-- ARGV id, node, holder, hold, limit (0: none), prefix of locks, then node and hold of each lease that the caller saw lapse
-- Returns {fence}; {0, 'lost_cluster'}, {0, 'held', hold} or {0, 'full'}; or false: no such run.
if missing(KEYS[1]) then return false end
if lost_cluster(KEYS[1], ARGV[1], ARGV[6]) then return { 0, 'lost_cluster' } end
local lapsed = {}
for i = 7, #ARGV, 2 do lapsed[ARGV[i]] = ARGV[i + 1] end
local hold = redis.call('HGET', KEYS[2], ARGV[2])
if holder_of(hold) ~= ARGV[3] then
  if holder_of(hold) and lapsed[ARGV[2]] ~= hold then return { 0, 'held', hold } end
  local limit, count = tonumber(ARGV[5]), 0
  if limit > 0 then
    local held = redis.call('HGETALL', KEYS[2])
    for i = 1, #held, 2 do
      if held[i] ~= ARGV[2] and holder_of(held[i + 1]) and lapsed[held[i]] ~= held[i + 1] then count = count + 1 end
    end
    if count >= limit then return { 0, 'full' } end
  end
  redis.call('HINCRBY', KEYS[3], ARGV[2], 1)
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
beat(KEYS[1])
return { tonumber(redis.call('HGET', KEYS[3], ARGV[2])) }
