# Part of the agent: operations that read files and folders.
$Sha256 = New-Object Security.Cryptography.SHA256CryptoServiceProvider  # the implementation that a FIPS policy allows

${function:Get-Hash} = {
    param([byte[]]$Bytes)
    return [BitConverter]::ToString($Sha256.ComputeHash($Bytes)).Replace('-', '').ToLowerInvariant()
}

${function:Get-HashOfFile} = {
    param([string]$Path)
    $stream = [IO.File]::Open($Path, 'Open', 'Read', 'ReadWrite, Delete')
    try { $hash = $Sha256.ComputeHash($stream) } finally { $stream.Dispose() }
    return [BitConverter]::ToString($hash).Replace('-', '').ToLowerInvariant()
}

# The file or folder at the path, or null. File.Exists would report a file that it may not read as absent.
${function:Get-Entry} = {
    param([string]$Path)
    try { $attributes = [IO.File]::GetAttributes($Path) }
    catch {
        if ((Get-Slug (Get-Cause $_.Exception)) -eq 'not_found') { return $null }
        throw
    }
    if ($attributes -band [IO.FileAttributes]::Directory) { return New-Object IO.DirectoryInfo $Path }
    return New-Object IO.FileInfo $Path
}

${function:Get-File} = {
    param([string]$Path)
    $entry = Get-Entry $Path
    if ($null -eq $entry) { Stop-Operation 'not_found' 'there is no such file' -Path $Path }
    if ($entry -is [IO.DirectoryInfo]) { Stop-Operation 'invalid' 'expected a file, found a folder' -Path $Path }
    return $entry
}

${function:Get-Folder} = {
    param([string]$Path)
    $entry = Get-Entry $Path
    if ($null -eq $entry) { Stop-Operation 'not_found' 'there is no such folder' -Path $Path }
    if ($entry -is [IO.FileInfo]) { Stop-Operation 'invalid' 'expected a folder, found a file' -Path $Path }
    return $entry
}

${function:Test-ReadOnly} = {
    param($Entry)
    return $Entry -is [IO.FileInfo] -and [bool]($Entry.Attributes -band [IO.FileAttributes]::ReadOnly)
}

${function:Get-Description} = {
    param($Entry, [bool]$Hashed, [bool]$Timed)
    $result = @{ kind = 'folder'; size = 0; mtime = (Get-TimeText $Entry.LastWriteTimeUtc) }
    if ($Entry -is [IO.FileInfo]) {
        $result['kind'] = 'file'
        $result['size'] = $Entry.Length
        if ($Hashed) { $result['hash'] = Get-HashOfFile $Entry.FullName }
        if ($Timed) { $result['ctime'] = Get-ChangeTime $Entry.FullName }
    }
    return $result
}

${function:Invoke-Stat} = {
    param($Fields)
    $path = Get-Path $Fields
    $hashed = Get-Field $Fields 'hash' -Kind 'flag' -Default $false
    $timed = Get-Field $Fields 'ctime' -Kind 'flag' -Default $false
    $entry = Get-Entry $path
    if ($null -eq $entry) { return @{ exists = $false } }
    $result = Get-Description $entry $hashed $timed
    $result['exists'] = $true
    $result['readonly'] = Test-ReadOnly $entry
    return $result
}

# A log file that its service holds open must not fail the whole list: its entry has no hash.
${function:Get-HashIfReadable} = {
    param([string]$Path)
    try { return Get-HashOfFile $Path }
    catch { if ('busy', 'access_denied', 'not_found' -notcontains (Get-Slug (Get-Cause $_.Exception))) { throw } }
}

${function:Invoke-List} = {
    param($Fields)
    $path = Get-Path $Fields
    $hashed = Get-Field $Fields 'hash' -Kind 'flag' -Default $false
    $timed = Get-Field $Fields 'ctime' -Kind 'flag' -Default $false
    $limit = Get-Field $Fields 'limit' -Kind 'whole' -Default 10000
    $rule = Get-SetRule $Fields
    $found = (Get-Folder $path).GetFileSystemInfos()
    $names = [string[]]@(foreach ($entry in $found) { $entry.Name })
    # IComparer: PowerShell would pass a converted copy to the generic overload, which would sort only the copy.
    [Array]::Sort([Array]$names, [Array]$found, [Collections.IComparer][StringComparer]::OrdinalIgnoreCase)
    $set = $null
    if ($null -ne $rule -and $hashed -and $found.Length -le $limit) { $set = Get-Set $found $rule $timed }
    # The JSON is written directly: building ten thousand entries as values first takes several times as long.
    $entries = New-Object Text.StringBuilder '['
    $count = [Math]::Min($found.Length, $limit)
    for ($at = 0; $at -lt $count; $at++) {
        if ($null -ne $set -and $set.told.Contains($at)) { continue }
        $entry = $found[$at]
        $kind, $size, $hash, $changed = 'folder', 0, $null, $null
        if ($entry -is [IO.FileInfo]) {
            $kind, $size = 'file', [long]$entry.Length
            if ($hashed) { $hash = Get-HashIfReadable $entry.FullName }
            if ($timed) { $changed = Get-ChangeTime $entry.FullName }
        }
        if ($entries.Length -gt 1) { [void]$entries.Append(',') }
        $name = $names[$at]
        if ($PlainText.IsMatch($name)) { $name = """$name""" } else { $name = Get-Quoted $name }
        $time = $entry.LastWriteTimeUtc.ToString($TimeFormat, $Invariant)
        [void]$entries.Append("{""name"":$name,""kind"":""$kind"",""size"":$size,""mtime"":""$time""")
        if ($hash) { [void]$entries.Append(",""hash"":""$hash""") }
        if ($timed -and $kind -eq 'file') { [void]$entries.Append(',"ctime":').Append((ConvertTo-JsonLine $changed)) }
        [void]$entries.Append('}')
    }
    $result = @{ entries = $entries.Append(']'); truncated = $found.Length -gt $limit }
    if ($null -ne $set) { $result['set'] = $set.set }
    return $result
}

${function:Invoke-Read} = {
    param($Fields)
    $path = Get-Path $Fields
    $limit = Get-Field $Fields 'limit' -Kind 'whole' -Default 4194304
    $known = Get-Field $Fields 'known' -Kind 'text' -Default $null
    $file = Get-File $path
    if ($file.Length -gt $limit) { Stop-Operation 'invalid' "the file has $($file.Length) bytes, more than the limit of $limit" -Path $path }
    $stream = [IO.File]::Open($path, 'Open', 'Read', 'ReadWrite, Delete')
    $memory = New-Object IO.MemoryStream
    try { $stream.CopyTo($memory) } finally { $stream.Dispose() }
    $bytes = $memory.ToArray()
    $result = @{ size = $bytes.Length; hash = Get-Hash $bytes; mtime = Get-TimeText $file.LastWriteTimeUtc }
    if ($result.hash -ne $known) { $result['data'] = [Convert]::ToBase64String($bytes) }
    return $result
}

${function:Invoke-Hash} = {
    param($Fields)
    $file = Get-File (Get-Path $Fields)
    return @{ hash = Get-HashOfFile $file.FullName; size = $file.Length }
}

${function:Invoke-Version} = {
    param($Fields)
    $file = Get-File (Get-Path $Fields)
    $version = [Diagnostics.FileVersionInfo]::GetVersionInfo($file.FullName).FileVersion
    if (-not $version) { $version = $null }
    return @{ version = $version; size = $file.Length; hash = Get-HashOfFile $file.FullName }
}
