# Part of the agent: the guard. A request may change files only in the folders it names, and never through a link.
# The operations that change files, and the field that holds the path.
$Changing = @{ write = 'path'; spread = 'folder'; mkdir = 'path'; remove = 'path'; touch = 'path' }
# Folders that were found not to be links in the current request. The main loop clears the set.
$CheckedFolders = New-Object 'Collections.Generic.HashSet[string]'

${function:Read-Guard} = {
    param($Map)
    $guard = @{ fence = $null; folders = $null }
    if (-not $Map.ContainsKey('guard') -or $null -eq $Map['guard']) { return $guard }
    $Map['op'] = 'request'
    $given = Get-Field $Map 'guard' -Kind 'object'
    $given['op'] = 'guard'
    $guard.folders = Get-Field $given 'folders' -Kind 'texts' -Default $null
    foreach ($folder in $guard.folders) { Assert-Path $folder }
    $fence = Get-Field $given 'fence' -Kind 'object' -Default $null
    if ($null -ne $fence) {
        $fence['op'] = 'guard.fence'
        $guard.fence = @{
            file = Get-Path $fence 'file'; number = Get-Field $fence 'number' -Kind 'whole'; run = Get-Field $fence 'run' -Kind 'text' -Default ''
            claim = Get-Field $fence 'claim' -Kind 'whole' -Default 0; wait = Get-Field $fence 'wait' -Kind 'seconds' -Default 30
        }
        if ($guard.fence.run -notmatch '\A[A-Za-z0-9._-]{0,64}\z') { Stop-Operation 'invalid' 'guard.fence: the field run must be up to 64 plain characters' }
        if ($guard.fence.claim -gt 9999999999) { Stop-Operation 'invalid' 'guard.fence: the field claim must have 10 digits at most' }
    }
    return $guard
}

# The length of the longest given folder that contains the path; -1 if none does.
${function:Measure-Folder} = {
    param([string]$Path, $Folders)
    $longest = -1
    foreach ($folder in $Folders) {
        $length = $folder.TrimEnd($Separator).Length
        if ($length -le $longest -or $Path.Length -lt $length) { continue }
        if (-not $Names.Equals($Path.Substring(0, $length), $folder.Substring(0, $length))) { continue }
        if ($Path.Length -eq $length -or $Path[$length] -eq $Separator) { $longest = $length }
    }
    return $longest
}

# Deduplicated files have a reparse point too, but are ordinary files. The tag of a link (a name surrogate) has the bit
# 0x20000000. .NET 4.5 does not show tags, so a system tool reads them. No answer counts as a link.
${function:Test-Link} = {
    param([string]$Path)
    if (-not $OnWindows) { return $true }
    $process = Start-Program "$env:SystemRoot\System32\fsutil.exe" ('reparsepoint', 'query', $Path)
    $outputs = @((New-Output $process.StandardOutput), (New-Output $process.StandardError))
    if (-not (Wait-Program $process $outputs -Deadline 10)) {
        Stop-Tree $process
        return $true
    }
    if ($outputs[0].text.ToString() -notmatch '0x[0-9a-f]{8}') { return $true }
    return [bool]([Convert]::ToUInt32($Matches[0], 16) -band 0x20000000)
}

# A write to a link would replace the link or change its target, depending on the system. The request asked for neither.
${function:Assert-NoLink} = {
    param([string]$Path, [IO.FileAttributes]$Attributes)
    if (-not ($Attributes -band [IO.FileAttributes]::ReparsePoint)) { return }
    if ($Attributes -band [IO.FileAttributes]::Directory) { Stop-Operation 'invalid' 'the path leaves its folder through a junction' -Path $Path }
    if (Test-Link $Path) { Stop-Operation 'invalid' 'the path leaves its folder through a link' -Path $Path }
}

# No part of the path below the start folder may be a link. The start folder and the folders above it may be.
${function:Assert-NoLinkOnPath} = {
    param([string]$Path, [int]$From)
    $end = $From
    if ($end -lt 0) { $end = $Path.IndexOf($Separator) }
    $last = $Path.LastIndexOf($Separator)
    if ($last -gt $end -and $CheckedFolders.Contains($Path.Substring(0, $last))) { $end = $last }
    while ($end -lt $Path.Length) {
        $end = $Path.IndexOf($Separator, $end + 1)
        if ($end -lt 0) { $end = $Path.Length }
        $place = $Path.Substring(0, $end)
        if ($CheckedFolders.Contains($place)) { continue }
        if (-not ([IO.Directory]::Exists($place) -or [IO.File]::Exists($place))) { return }
        $attributes = [IO.File]::GetAttributes($place)
        Assert-NoLink $place $attributes
        if ($attributes -band [IO.FileAttributes]::Directory) { [void]$CheckedFolders.Add($place) }
    }
}

${function:Assert-Target} = {
    param([string]$Path, $Folders)
    if ($null -eq $Folders) { return Assert-NoLinkOnPath $Path (-1) }
    $from = Measure-Folder $Path $Folders
    if ($from -lt 0) { Stop-Operation 'invalid' 'the path is outside the folders of the guard' -Path $Path }
    Assert-NoLinkOnPath $Path $from
}

# The start record is written like any file of ours: in the folders of the guard, and not through a link.
${function:Assert-StartRecord} = {
    param($Fields, $Guard)
    if (-not $Fields.ContainsKey('start_record') -or $null -eq $Fields['start_record']) { return }
    $given = Get-Field $Fields 'start_record' -Kind 'object'
    $given['op'] = 'start_record'
    $file = Get-Path $given 'file'
    Assert-Target $file $Guard.folders
    if ($Guard.fence -and $Names.Equals($file, $Guard.fence.file)) { Stop-Operation 'invalid' 'the start record must not be the fence file' -Path $file }
}

# The open fence file, to be closed after the operation, or null.
${function:Enter-Guard} = {
    param($Fields, $Guard)
    $fence = $Guard.fence
    if ($Changing.ContainsKey($Fields['op'])) {
        $path = Get-Path $Fields $Changing[$Fields['op']]
        Assert-Target $path $Guard.folders
        if ($Fields.ContainsKey('backup') -and $null -ne $Fields['backup']) {
            $backup = Get-Path $Fields 'backup'
            Assert-Target $backup $Guard.folders
            foreach ($name in 'files', 'manifest.jsonl') { Assert-NoLinkOnPath "$backup$Separator$name" $backup.Length }
        }
        Assert-StartRecord $Fields $Guard
        if ($null -eq $fence) { return $null }
        if ($Names.Equals($path, $fence.file)) { Stop-Operation 'invalid' 'a guarded operation must not change its own fence file' -Path $path }
        Assert-NoLinkOnPath $fence.file (Measure-Folder $fence.file $Guard.folders)
        return Enter-Fence $fence
    }
    $controls = $Fields['op'] -eq 'service' -and $Fields.ContainsKey('action') -and 'stop', 'start' -ccontains $Fields['action']
    if ($controls) { Assert-StartRecord $Fields $Guard }
    if ($fence -and $controls) {
        Assert-NoLinkOnPath $fence.file (Measure-Folder $fence.file $Guard.folders)
        (Enter-Fence $fence).Dispose()
    }
    return $null
}
