# Part of the agent: operations that change files and folders.
$StrayName = New-Object regex ('\.esync-(\d+)\.tmp\z', $RegexCase)

${function:Test-Alive} = {
    param([int]$Id, [string]$File)
    if ($Id -eq $PID) { return $false }
    try { return [Diagnostics.Process]::GetProcessById($Id).StartTime.ToUniversalTime() -le [IO.File]::GetLastWriteTimeUtc($File) }
    catch { return (Get-Cause $_.Exception) -isnot [ArgumentException] }
}

# Deletes temporary files of agent processes that have ended.
${function:Clear-Stray} = {
    param([string]$Folder)
    foreach ($file in [IO.Directory]::GetFiles($Folder, '*.tmp')) {
        $found = $StrayName.Match($file)
        if ($found.Success -and -not (Test-Alive $found.Groups[1].Value $file)) { [IO.File]::Delete($file) }
    }
}

# Leaves all old bytes or all new bytes, whenever the process is killed. A virus scanner may hold a file for a moment.
${function:Set-File} = {
    param([string]$Path, [byte[]]$Bytes, [string]$Hash, $Existing)
    $temporary = "$Path.esync-$PID.tmp"
    try {
        $stream = [IO.File]::Open($temporary, 'CreateNew', 'Write', 'None')
        try {
            $stream.Write($Bytes, 0, $Bytes.Length)
            $stream.Flush($true)
        }
        finally { $stream.Dispose() }
        if ($null -eq $Existing) { [IO.File]::Move($temporary, $Path) }
        else { Move-IntoPlace $temporary $Path -Existing $Existing }
    }
    catch {
        if ([IO.File]::Exists($temporary)) { [IO.File]::Delete($temporary) }
        throw
    }
    if ((Get-HashOfFile $Path) -ne $Hash) { Stop-Operation 'failed' 'the file does not contain the bytes that were written' -Path $Path }
}

# The file keeps its attributes and the case of its name: Replace would use the name that it is given.
${function:Move-IntoPlace} = {
    param([string]$Temporary, [string]$Path, $Existing)
    if ($OnWindows) {
        [IO.File]::SetAttributes($Temporary, $Existing.Attributes)
        foreach ($same in [IO.Directory]::GetFiles($Existing.DirectoryName, $Existing.Name)) { if ($same -eq $Path) { $Path = $same } }
    }
    foreach ($pause in 100, 200, 400, 0) {
        try { return [IO.File]::Replace($Temporary, $Path, [NullString]::Value, $true) }
        catch {
            if ($pause -eq 0 -or (Get-Slug (Get-Cause $_.Exception)) -ne 'busy') { throw }
            [Threading.Thread]::Sleep($pause)
        }
    }
}

${function:Invoke-Write} = {
    param($Fields)
    $path = Get-Path $Fields
    $bytes = Get-Bytes (Get-Field $Fields 'data' -Kind 'text') 'data'
    $expect = Get-Field $Fields 'expect' -Kind 'text'
    $backup = Get-Backup $Fields
    $record = Get-StartRecord $Fields 'service' 'text'
    if ($expect -notmatch '\A(absent|any|[0-9a-f]{64})\z') { Stop-Operation 'invalid' 'expect must be a hash, absent or any' -Path $path }
    $existing = Get-Entry $path
    $before = $null
    if ($null -ne $existing) { $before = Get-HashOfFile (Get-File $path).FullName }
    else { [void](Get-Folder ([IO.Path]::GetDirectoryName($path))) }
    $after = Get-Hash $bytes
    if ($before -eq $after) { return @{ changed = $false; before = $before; after = $after; backup = $null } }
    if ($expect -eq 'absent' -and $before) { Stop-Operation 'conflict' 'the file already exists' -Path $path }
    if ($expect.Length -eq 64 -and $expect -ne $before) { Stop-Operation 'conflict' "the file's hash is not the expected hash" -Path $path }
    if (Test-ReadOnly $existing) { Stop-Operation 'access_denied' 'the file is read-only' -Path $path }
    Clear-Stray ([IO.Path]::GetDirectoryName($path))
    Set-StartOutdated $record
    $place = Add-Backup $backup $path -Before $before -After $after
    Set-File $path $bytes -Hash $after -Existing $existing
    return @{ changed = $true; before = $before; after = $after; backup = $place }
}

# The files that differ. Every reason to refuse is checked before the first byte is written.
${function:Get-Unequal} = {
    param([string]$Folder, $Files, $Blobs)
    $present = New-Object 'Collections.Generic.Dictionary[string,object]' $Names
    foreach ($entry in (Get-Folder $Folder).GetFileSystemInfos()) { $present[$entry.Name] = $entry }
    foreach ($name in $Files.Keys) {
        $path = "$($Folder.TrimEnd($Separator))$Separator$name"
        $blob = $Blobs[$Files[$name]]
        $entry = $null
        $before = $null
        if ($present.TryGetValue($name, [ref]$entry)) {
            Assert-NoLink $path $entry.Attributes
            if ($entry -is [IO.DirectoryInfo]) { Stop-Operation 'invalid' 'expected a file, found a folder' -Path $path }
            $before = Get-HashOfFile $path
            if ($before -eq $blob.hash) { continue }
            if (Test-ReadOnly $entry) { Stop-Operation 'access_denied' 'the file is read-only' -Path $path }
        }
        @{ name = $name; path = $path; blob = $blob; before = $before; entry = $entry }
    }
}

# Name -> blob. With owners, `files` has the endings of the names, and each owner gets one file of each ending.
${function:Get-SpreadFile} = {
    param($Fields)
    $files = Get-Field $Fields 'files' -Kind 'map of texts'
    $owners = Get-Field $Fields 'owners' -Kind 'texts' -Default $null
    if ($null -eq $owners) { return , $files }
    $each = New-Object 'Collections.Generic.Dictionary[string,object]'
    foreach ($owner in $owners) { foreach ($end in $files.Keys) { $each["$owner$end"] = $files[$end] } }
    return , $each
}

${function:Invoke-Spread} = {
    param($Fields)
    $folder = Get-Path $Fields 'folder'
    $files = Get-SpreadFile $Fields
    $encoded = Get-Field $Fields 'blobs' -Kind 'map of texts'
    $backup = Get-Backup $Fields
    $record = Get-StartRecord $Fields 'service' 'text'
    $blobs = @{}
    foreach ($id in $encoded.Keys) {
        $bytes = Get-Bytes $encoded[$id] "blobs.$id"
        $blobs[$id] = @{ bytes = $bytes; hash = Get-Hash $bytes }
    }
    foreach ($name in $files.Keys) {
        $fault = Get-NameFault $name
        if ($fault) { Stop-Operation 'invalid' "a name in files contains $fault" -Path $folder }
        if (-not $encoded.ContainsKey($files[$name])) { Stop-Operation 'invalid' "files refers to a missing blob: $($files[$name])" -Path $folder }
    }
    $unequal = @(Get-Unequal $folder -Files $files -Blobs $blobs)
    if ($unequal) {
        Clear-Stray $folder
        Set-StartOutdated $record
    }
    foreach ($one in $unequal) {
        [void](Add-Backup $backup $one.path -Before $one.before -After $one.blob.hash)
        Set-File $one.path $one.blob.bytes -Hash $one.blob.hash -Existing $one.entry
    }
    $result = @{ changed = $unequal.Count; unchanged = $files.Count - $unequal.Count }
    if (-not $Fields.ContainsKey('owners') -or $null -eq $Fields['owners']) { $result['written'] = @(foreach ($one in $unequal) { $one.name }) }
    return $result
}

# The folders that must be created for this path, outermost first.
${function:Get-MissingFolder} = {
    param([string]$Path)
    $missing = New-Object Collections.Generic.Stack[string]
    $folder = $Path
    while (-not [IO.Directory]::Exists($folder)) {
        if ($null -ne (Get-Entry $folder)) { Stop-Operation 'invalid' 'a file with that name exists' -Path $folder }
        $missing.Push($folder)
        $folder = [IO.Path]::GetDirectoryName($folder)
        if (-not $folder) { Stop-Operation 'not_found' 'there is no such drive' -Path $Path }
    }
    return , $missing
}

${function:Invoke-Mkdir} = {
    param($Fields)
    $path = Get-Path $Fields
    $backup = Get-Backup $Fields
    $missing = Get-MissingFolder $path
    foreach ($folder in $missing) {
        [void](Add-Backup $backup $folder -Before $null -After 'folder')
        [void][IO.Directory]::CreateDirectory($folder)
    }
    return @{ changed = $missing.Count -gt 0 }
}

${function:Invoke-Remove} = {
    param($Fields)
    $path = Get-Path $Fields
    $expect = Get-Field $Fields 'expect' -Kind 'text' -Default 'any'
    $backup = Get-Backup $Fields
    $record = Get-StartRecord $Fields 'service' 'text'
    if ($expect -cnotmatch '\A(folder|any|[0-9a-fA-F]{64})\z') { Stop-Operation 'invalid' 'expect must be a hash, folder or any' -Path $path }
    $entry = Get-Entry $path
    if ($null -eq $entry) { return @{ changed = $false } }
    $before = 'folder'
    if ($entry -is [IO.FileInfo]) { $before = Get-HashOfFile $path }
    elseif ($null -eq $entry.Parent) { Stop-Operation 'invalid' 'a drive cannot be removed' -Path $path }
    if ($expect -ne 'any' -and $expect -ne $before) { Stop-Operation 'conflict' 'the current content is not the expected content' -Path $path }
    if (Test-ReadOnly $entry) { Stop-Operation 'access_denied' 'the file is read-only' -Path $path }
    if ($before -eq 'folder' -and $entry.GetFileSystemInfos().Length) { Stop-Operation 'failed' 'the folder is not empty' -Path $path }
    Set-StartOutdated $record
    [void](Add-Backup $backup $path -Before $before -After $null)
    $entry.Delete()
    return @{ changed = $true }
}

${function:Invoke-Touch} = {
    param($Fields)
    $path = Get-Path $Fields
    $entry = Get-Entry $path
    if ($null -eq $entry) { Stop-Operation 'not_found' 'there is no such file' -Path $path }
    if (Test-ReadOnly $entry) { Stop-Operation 'access_denied' 'the file is read-only' -Path $path }
    $entry.LastWriteTimeUtc = [DateTime]::UtcNow
    $entry.Refresh()
    return @{ mtime = Get-TimeText $entry.LastWriteTimeUtc }
}
