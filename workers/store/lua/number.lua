-- KEYS run, leases; ARGV id, node, fence, the number that is wanted ('': only asked), prefix of numbers
-- Returns 'late', 'lost_servers', {the last number given for the node, its run}, or false: no such run. The number that is
-- wanted is given when it is larger than that. Numbers are compared as texts: they may have 18 digits.
local state = opened(KEYS[1], 'cluster', 'lock')
if not state then return false end
local lease = lease_in(KEYS[2], ARGV[2])
if whole(lease.fence) ~= ARGV[3] then return 'late' end
if not state.cluster or not has_servers(state, ARGV[1]) then return 'lost_servers' end
local numbers, wanted = ARGV[5] .. state.cluster, ARGV[4]
local given, owner = string.match(redis.call('HGET', numbers, ARGV[2]) or '', '^(%d+) (.+)$')
if not given or #given > 18 then given, owner = '0', '' end -- esync gives no such number
if #wanted > #given or (#wanted == #given and wanted > given) then
  given, owner = wanted, ARGV[1]
  redis.call('HSET', numbers, ARGV[2], given .. ' ' .. owner)
  lease.number = given
  keep_lease(KEYS[2], ARGV[2], lease)
end
return { given, owner }
