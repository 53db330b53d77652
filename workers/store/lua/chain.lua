-- Comes before each script that adds to a run's history. workers/store/chain.py explains the link, and computes the same.
local bit_and, bit_xor = bit.band, bit.bxor
local turned, shifted, wrapped = bit.ror, bit.rshift, bit.tobit

-- SHA-256 (FIPS 180-4): the constants of the rounds, and the initial state.
local ROUNDS = {
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}
local BEGIN = {
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
}

-- Sums are not reduced to 32 bits: bit operations do that, and in 64 rounds a sum stays below their limit of 2^51.
local function compress(state, words)
  for t = 17, 64 do
    local x, y = words[t - 15], words[t - 2]
    words[t] = words[t - 16] + bit_xor(turned(x, 7), turned(x, 18), shifted(x, 3))
      + words[t - 7] + bit_xor(turned(y, 17), turned(y, 19), shifted(y, 10))
  end
  local a, b, c, d, e, f, g, h = unpack(state)
  for t = 1, 64 do
    local first = h + bit_xor(turned(e, 6), turned(e, 11), turned(e, 25))
      + bit_xor(g, bit_and(e, bit_xor(f, g))) + ROUNDS[t] + words[t]
    local second = bit_xor(turned(a, 2), turned(a, 13), turned(a, 22)) + bit_and(a, b) + bit_and(c, bit_xor(a, b))
    h, g, f, e, d, c, b, a = g, f, e, d + first, c, b, a, first + second
  end
  local grown = { a, b, c, d, e, f, g, h }
  for i = 1, 8 do state[i] = wrapped(state[i] + wrapped(grown[i])) end
end

-- SHA-256 of 80 bytes: the link before, the event's digest (both hex), and the two numbers of its id.
local function link(before, digest, milliseconds, sequence)
  local words = {}
  for i = 1, 8 do
    words[i] = tonumber(string.sub(before, i * 8 - 7, i * 8), 16)
    words[i + 8] = tonumber(string.sub(digest, i * 8 - 7, i * 8), 16)
  end
  local state = { unpack(BEGIN) }
  compress(state, words)
  local high = math.floor(milliseconds / 4294967296)
  compress(state, {
    high, milliseconds - high * 4294967296, 0, sequence, 0x80000000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 640,
  })
  local hex = {}
  for i = 1, 8 do hex[i] = bit.tohex(state[i]) end
  return table.concat(hex)
end

-- The fields of a run that events need; `opened` reads them.
local function opened_for_events(run, ...)
  return opened(run, 'head', 'head_id', 'count', 'dropped', ...)
end

-- Appends one event to the history and its chain; beyond the cap, removes the oldest and keeps its link as the root.
-- `at` is in milliseconds, for people who read the id; no decision uses it. Returns id and link. The caller writes the
-- state of the chain with `linked`.
local function append(state, events, cap, at, digest, event)
  local time, sequence = tonumber(at), 0
  if state.head_id then
    local last, number = string.match(state.head_id, '^(%d+)-(%d+)$')
    -- Ids increase also when the server's clock was set back.
    if tonumber(last) >= time then time, sequence = tonumber(last), tonumber(number) + 1 end
  end
  local id = whole(time) .. '-' .. whole(sequence)
  local chain = link(state.head or string.rep('0', 64), digest, time, sequence)
  redis.call('XADD', events, id, 'event', event, 'chain', chain)
  state.head, state.head_id, state.count = chain, id, whole(tonumber(state.count or 0) + 1)
  while tonumber(state.count) - tonumber(state.dropped or 0) > tonumber(cap) do
    local oldest = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
    if not oldest then break end -- another program has removed events
    redis.call('XDEL', events, oldest[1])
    state.root, state.dropped = oldest[2][4], whole(tonumber(state.dropped or 0) + 1)
  end
  return { id, chain }
end

-- Writes the chain, and more fields, to the run.
local function linked(run, state, ...)
  local changed = { 'head', state.head, 'head_id', state.head_id, 'count', state.count, ... }
  if state.root then
    for _, word in ipairs({ 'root', state.root, 'dropped', state.dropped }) do changed[#changed + 1] = word end
  end
  beat(run, state, unpack(changed))
end
