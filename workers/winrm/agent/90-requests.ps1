# Part of the agent: the main loop. Reads a request, runs its operations in order and writes the reply.
$Operations = @{
    hello = ${function:Invoke-Hello}; stat = ${function:Invoke-Stat}; list = ${function:Invoke-List}
    read = ${function:Invoke-Read}; hash = ${function:Invoke-Hash}; write = ${function:Invoke-Write}
    spread = ${function:Invoke-Spread}; mkdir = ${function:Invoke-Mkdir}; remove = ${function:Invoke-Remove}
    service = ${function:Invoke-Service}; version = ${function:Invoke-Version}; registry = ${function:Invoke-Registry}
    tcp = ${function:Invoke-Tcp}; http = ${function:Invoke-Http}; clock = ${function:Invoke-Clock}
    touch = ${function:Invoke-Touch}; run = ${function:Invoke-Run}
}

${function:Read-Request} = {
    param([string]$Line)
    $request = @{ id = $null; fault = ''; stop = $false; going = $false; ops = @(); guard = $null; gzip = $false }
    try { $map = ConvertFrom-JsonLine $Line }
    catch {
        $request.fault = 'the line is not a JSON object'
        return $request
    }
    if (-not $map.ContainsKey('id') -or $map['id'] -isnot [string]) {
        $request.fault = 'the request has no id'
        return $request
    }
    $request.id = $map['id']
    $request.stop = $map.ContainsKey('stop') -and $map['stop'] -is [bool] -and $map['stop']
    $request.going = $map.ContainsKey('keep_going') -and $map['keep_going'] -is [bool] -and $map['keep_going']
    $request.gzip = $map.ContainsKey('gzip') -and $map['gzip'] -is [bool] -and $map['gzip']
    if (-not $map.ContainsKey('v') -or $map['v'] -isnot [long] -or $map['v'] -ne $ProtocolVersion) {
        $request.fault = "the request has a version other than $ProtocolVersion"
        $request.stop = $false
    }
    elseif (-not $request.stop) {
        if ($map.ContainsKey('ops')) { $request.ops = $map['ops'] }
        $request.fault = Get-OpsFault $map.ContainsKey('ops') $request.ops
        if (-not $request.fault) {
            try { $request.guard = Read-Guard $map }
            catch { $request.fault = (Get-Cause $_.Exception).Message }
        }
    }
    return $request
}

${function:Get-OpsFault} = {
    param([bool]$Given, $Ops)
    if (-not $Given -or $Ops -isnot [Collections.Generic.List[object]]) { return 'the request has no list of operations' }
    foreach ($op in $Ops) {
        if ($op -isnot [Collections.IDictionary] -or -not $op.ContainsKey('op') -or $op['op'] -isnot [string]) {
            return 'an operation has no op'
        }
    }
    return ''
}

${function:Get-Result} = {
    param($Fields, $Guard)
    $held = $null
    try {
        $name = $Fields['op']
        if ($Operations.Keys -cnotcontains $name) { Stop-Operation 'invalid' "there is no operation $name" }
        $held = Enter-Guard $Fields $Guard
        $result = @(& $Operations[$name] $Fields)[-1]
        $result['ok'] = $true
        return $result
    }
    catch { return Get-FailedResult $_.Exception $Fields }
    finally { if ($null -ne $held) { $held.Dispose() } }
}

${function:Get-Results} = {
    param($Request)
    $results = New-Object Collections.Generic.List[object]
    $ValidPaths.Clear()
    $CheckedFolders.Clear()
    if ($Request.fault) { $results.Add(@{ ok = $false; error = 'invalid'; message = $Request.fault }) }
    else {
        foreach ($fields in $Request.ops) {
            $result = Get-Result $fields $Request.guard
            $results.Add($result)
            if (-not ($result['ok'] -or $Request.going)) { break }
        }
    }
    return , $results
}

# Length from which results are compressed. Names and hashes of a large cluster's files are similar, and WinRM encodes
# everything in base64 again.
$PackedFrom = 8000
${function:Get-Packed} = {
    param([string]$Text)
    $store = New-Object IO.MemoryStream
    $pack = New-Object IO.Compression.GZipStream $store, ([IO.Compression.CompressionMode]::Compress)
    $bytes = $Ascii.GetBytes($Text)
    $pack.Write($bytes, 0, $bytes.Length)
    $pack.Dispose()
    return [Convert]::ToBase64String($store.ToArray())
}

${function:Get-Answer} = {
    param($Request, $Results)
    $text = ConvertTo-JsonLine $Results
    $name = 'results'
    if ($Request.gzip -and $text.Length -ge $PackedFrom) {
        $text = ConvertTo-JsonLine (Get-Packed $text)
        $name = 'gzip'
    }
    return '{"v":' + $ProtocolVersion + ',"id":' + (ConvertTo-JsonLine $Request.id) + ',"' + $name + '":' + $text + '}'
}

# In batch mode the bootstrap has already read all lines.
$Waiting = $null
if (Test-Path -LiteralPath 'variable:Received') { $Waiting = $Received }

${function:Read-Line} = {
    if ($null -eq $Waiting) { return [Console]::In.ReadLine() }
    if ($Waiting.Count) { return $Waiting.Dequeue() }
    return $null
}

# Written in one piece: the console's writer splits its input into 256 characters, each of which becomes a WinRM message.
$Out = [Console]::OpenStandardOutput()
while ($null -ne ($line = Read-Line)) {
    if ($line.Trim() -eq '') { continue }
    $request = Read-Request $line
    $results = Get-Results $request
    $answer = $Ascii.GetBytes((Get-Answer $request $results) + "`n")
    $Out.Write($answer, 0, $answer.Length)
    $Out.Flush()
    if ($request.stop) { break }
}
