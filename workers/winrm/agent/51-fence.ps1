# Part of the agent: the fence. A request from an older run than the newest one that the node knows changes nothing.
# An agent that changes files holds the fence file open exclusively. The system closes it whenever the process ends.
${function:Open-Fence} = {
    param($Fence)
    $file = $Fence.file
    if ([IO.Directory]::Exists($file)) { Stop-Operation 'invalid' 'expected the fence file, found a folder' -Path $file }
    $clock = [Diagnostics.Stopwatch]::StartNew()
    while ($true) {
        try {
            $folder = [IO.Path]::GetDirectoryName($file)
            if ((Get-MissingFolder $folder).Count) { New-ProtectedFolder $folder }
            return [IO.File]::Open($file, 'OpenOrCreate', 'ReadWrite', 'None')
        }
        catch {
            $cause = Get-Cause $_.Exception
            $slug = Get-Slug $cause
            if ($cause.Data.Contains('slug')) { throw }
            if ($slug -ne 'busy') { Stop-Operation $slug $cause.Message -Path $file }
            if ($clock.Elapsed.TotalSeconds -ge $Fence.wait) { Stop-Operation 'busy' "another writer has held the fence for $($Fence.wait) s" -Path $file }
        }
        [Threading.Thread]::Sleep(50)
    }
}

# The newest writer in the fence file. An empty file (just created, or after a power failure) means that its writer had
# changed nothing yet. A file from an older agent has a number but no run.
${function:Read-Fence} = {
    param($Stream, [string]$File)
    $bytes = New-Object byte[] 98
    $count = $Stream.Read($bytes, 0, $bytes.Length)
    $text = $Ascii.GetString($bytes, 0, $count).Trim([char[]](0, 10, 13, 32))
    $seen = @{ number = [long]-1; claim = [long]0; run = '' }
    if ($count -lt $bytes.Length -and $text -eq '') { return $seen }
    $number = [long]0
    $known = $count -lt $bytes.Length -and $text -match '\A([0-9]{1,20})(?: ([0-9]{1,10}) ([A-Za-z0-9._-]{1,64}))?\z'
    if (-not $known -or -not [long]::TryParse($Matches[1], 'None', $Invariant, [ref]$number)) {
        Stop-Operation 'failed' 'the fence file does not contain a fence number; find out what wrote it' -Path $File
    }
    $seen.number = $number
    if ($Matches[3]) { $seen.claim, $seen.run = [long]$Matches[2], $Matches[3] }
    return $seen
}

${function:Get-Writer} = {
    param($Fence)
    if ($Fence.run -eq '') { return "$($Fence.number)" }
    return "$($Fence.number), claim $($Fence.claim) of run $($Fence.run)"
}

# One line of fixed length, written by one call within one disk sector: a reader sees the old line or the new line.
${function:Set-Fence} = {
    param($Stream, $Fence)
    $seen = Read-Fence $Stream $Fence.file
    $same = $seen.number -eq $Fence.number
    if ($seen.number -gt $Fence.number -or ($same -and ($seen.run -cne $Fence.run -or $seen.claim -gt $Fence.claim))) {
        $writers = "a newer writer ($(Get-Writer $seen)) has changed this node; this request ($(Get-Writer $Fence))"
        Stop-Operation 'conflict' "$writers is outdated" -Path $Fence.file
    }
    if ($same -and ($seen.claim -eq $Fence.claim -or $Fence.run -eq '')) { return }
    $writer = ''
    if ($Fence.run -ne '') { $writer = ' ' + $Fence.claim.ToString('D10', $Invariant) + ' ' + $Fence.run }
    $line = $Ascii.GetBytes(($Fence.number.ToString('D20', $Invariant) + $writer).PadRight(96) + "`n")
    $Stream.Position = 0
    $Stream.Write($line, 0, $line.Length)
    $Stream.Flush($true)
}

${function:Enter-Fence} = {
    param($Fence)
    $stream = Open-Fence $Fence
    try { Set-Fence $stream $Fence }
    catch {
        $stream.Dispose()
        throw
    }
    return $stream
}
