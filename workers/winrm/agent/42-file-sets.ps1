# Part of the agent: sets of files in a list. A folder of a large cluster holds six files a server. Where all of them are as
# expected, a digest of the owners and one hash an ending say the same as thousands of entries.
${function:Get-SetRule} = {
    param($Fields)
    $given = Get-Field $Fields 'set' -Kind 'object' -Default $null
    if ($null -eq $given) { return $null }
    $given['op'] = 'set'
    $ends = Get-Field $given 'ends' -Kind 'texts'
    $pattern = '\A(.+)(' + (@(foreach ($end in $ends) { [regex]::Escape($end) }) -join '|') + ')\z'
    return @{ ends = $ends; pattern = New-Object regex ($pattern, $RegexCase); owners = Get-Field $given 'owners' -Kind 'texts' }
}

# The files of the set by position, with their hashes; null if one has none, or there is another file of the same owner and ending.
${function:Get-SetMember} = {
    param($Found, $Rule)
    $seen = New-Object 'Collections.Generic.HashSet[string]'
    for ($at = 0; $at -lt $Found.Length; $at++) {
        if ($Found[$at] -isnot [IO.FileInfo]) { continue }
        $match = $Rule.pattern.Match($Found[$at].Name)
        if (-not $match.Success) { continue }
        $hash = Get-HashIfReadable $Found[$at].FullName
        if (-not $hash -or -not $seen.Add($match.Value.ToLowerInvariant())) { return $null }
        @{ at = $at; owner = $match.Groups[1].Value.ToLowerInvariant(); end = $match.Groups[2].Value.ToLowerInvariant(); hash = $hash }
    }
}

# The digest of the owners if every ending has the same ones; else null.
${function:Get-OwnersDigest} = {
    param($Members, $Rule)
    $digest = $null
    foreach ($end in $Rule.ends) {
        $owners = [string[]]@(foreach ($one in $Members) { if ($one.end -eq $end) { $one.owner } })
        [Array]::Sort([Array]$owners, [Collections.IComparer][StringComparer]::Ordinal)
        $other = Get-Hash ([Text.Encoding]::UTF8.GetBytes($owners -join "`n"))
        if ($null -ne $digest -and $digest -ne $other) { return $null }
        $digest = $other
    }
    return $digest
}

# The commonest hash of an ending; of several the smallest.
${function:Get-Commonest} = {
    param($Members, [string]$End)
    $counts = @{}
    foreach ($one in $Members) { if ($one.end -eq $End) { $counts[$one.hash] = 1 + $counts[$one.hash] } }
    $best = ''
    foreach ($hash in $counts.Keys) {
        if (-not $best -or $counts[$hash] -gt $counts[$best] -or ($counts[$hash] -eq $counts[$best] -and [string]::CompareOrdinal($hash, $best) -lt 0)) { $best = $hash }
    }
    return $best
}

# The newest of these times and the name of its file; no time if one file has none.
${function:Get-Newest} = {
    param($Found, $Members, [string]$Kind)
    $time, $name = '', $null
    foreach ($one in $Members) {
        $entry = $Found[$one.at]
        if ($Kind -eq 'mtime') { $text = Get-TimeText $entry.LastWriteTimeUtc } else { $text = Get-ChangeTime $entry.FullName }
        if ($null -eq $text) { return @{ time = $null; name = $entry.Name } }
        if ([string]::CompareOrdinal($text, $time) -gt 0) { $time, $name = $text, $entry.Name }
    }
    return @{ time = $time; name = $name }
}

# The set in a sorted list, or null. `told` has the positions of the files that need no entry.
${function:Get-Set} = {
    param($Found, $Rule, [bool]$Timed)
    $members = @(Get-SetMember $Found $Rule)
    if (-not $members -or $null -eq $members[-1]) { return $null }
    $digest = Get-OwnersDigest $members $Rule
    if ($null -eq $digest -or $Rule.owners -notcontains $digest) { return $null }
    $set = @{ owners = $digest; common = @{}; mtime = Get-Newest $Found $members 'mtime' }
    if ($Timed) { $set['ctime'] = Get-Newest $Found $members 'ctime' }
    $told = New-Object 'Collections.Generic.HashSet[int]'
    foreach ($end in $Rule.ends) {
        $common = Get-Commonest $members $end
        $set.common[$end] = $common
        foreach ($one in $members) { if ($one.end -eq $end -and $one.hash -eq $common) { [void]$told.Add($one.at) } }
    }
    return @{ set = $set; told = $told }
}
