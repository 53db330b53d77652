-- KEYS run, outcomes of the turn, leases, events, the nodes that wait, and the hash of each document that is read
-- ARGV id, version, node, place of the step, place of the step before it ('': none), holder, hold, limit (0: none),
-- the flag that lets nothing begin, the flag that outweighs it and ends steps untried, '1' for a step that these and a
-- failed step before it do not end, the statuses that end a node, cap, time, digest and event of its begin, the name of
-- each document, then node and hold of each lease that the caller saw lapse
-- Returns {fence or 0, reason, hold, number, its outcome, the outcome before, flags, the documents, ...}, '' for what
-- there is not; {-1} when the run has another version; or false: no such run.
local state = opened_for_events(KEYS[1], 'locked', 'lock', 'held', 'flags')
if not state then return false end
if state.version ~= ARGV[2] then return { -1 } end
local set = flags_of(state)
local known = redis.call('HMGET', KEYS[2], ARGV[4], ARGV[5])
local own, before = known[1] or '', known[2] or ''
local waits = set[ARGV[9]] and not set[ARGV[10]]
local lease, reason, hold = nil, 'nothing to do', nil
if own == '' and not waits and (ARGV[5] == '' or before ~= '') then
  -- A node that has begun in this turn continues: only the first of its steps waits for a place.
  local lapsed, limit = lapsed_from(12 + #KEYS), ARGV[5] == '' and tonumber(ARGV[8]) or 0
  lease, reason, hold = claimed(state, KEYS[3], ARGV[1], ARGV[3], ARGV[6], ARGV[7], limit, lapsed, place_in(KEYS[2]))
  if reason == 'full' then wait_for_place(KEYS[5], KEYS[2], ARGV[3]) end
  if lease and limit > 0 then redis.call('ZREM', KEYS[5], waiting_as(KEYS[2], ARGV[3])) end
end
if lease then
  local ended = string.match(before, '"status":"([%l_]+)"')
  local untried = set[ARGV[10]] or (ended and string.find(ARGV[12], ' ' .. ended .. ' ', 1, true))
  if lease.again or (untried and ARGV[11] ~= '1') then
    beat(KEYS[1], state, 'held', state.held or '0')
  else
    append(state, KEYS[4], ARGV[13], ARGV[14], ARGV[15], ARGV[16])
    linked(KEYS[1], state, 'held', state.held or '0')
  end
end
local answer = {
  lease and lease.fence or 0, reason or '', hold or '', lease and lease.number or '0', own, before, state.flags or '',
}
for i = 6, #KEYS do answer[#answer + 1] = redis.call('HGET', KEYS[i], ARGV[11 + i]) or '' end
return answer
