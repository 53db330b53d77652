# The agent of esync-rollout: answers requests about this machine, one JSON line each. docs/agent-protocol.md, version 1.
# Runs on Windows PowerShell 3.0 to 5.1 (.NET 4.5) and PowerShell 7. The bootstrap has read this text from stdin; the
# requests follow there, so no child may inherit it and this text must not name the automatic variable for piped data.
# Functions are assigned, not declared: on declarations PSScriptAnalyzer's rule about overwritten built-in commands ends
# the whole lint where the recordings of its default PowerShell are not installed.
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'
[void][Reflection.Assembly]::Load(
    'System.Runtime.Serialization, Version=4.0.0.0, Culture=neutral, PublicKeyToken=b77a5c561934e089')

$ProtocolVersion = 1
$Separator = [IO.Path]::DirectorySeparatorChar
$OnWindows = $Separator -eq '\'
$Names = [StringComparer]::Ordinal
if ($OnWindows) { $Names = [StringComparer]::OrdinalIgnoreCase }
$Invariant = [Globalization.CultureInfo]::InvariantCulture
$Ascii = New-Object Text.ASCIIEncoding
$RegexCase = [Text.RegularExpressions.RegexOptions]'IgnoreCase, CultureInvariant'
$PlainText = New-Object regex '\A[ !#-\[\]-~]*\z'
$EscapedText = New-Object regex '[^ !#-\[\]-~]'
$ForbiddenInName = New-Object regex '[\x00-\x1f<>:"/\\|?*]'
$DeviceName = New-Object regex ('\A(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9\u00b9\u00b2\u00b3])\s*(\..*)?\z', $RegexCase)
$StrayName = New-Object regex ('\.esync-(\d+)\.tmp\z', $RegexCase)
$Required = New-Object object
# Seen in the present request: paths that are well formed, folders that are no junction.
$SoundPaths = New-Object 'Collections.Generic.HashSet[string]'
$PlainFolders = New-Object 'Collections.Generic.HashSet[string]'

# ---- failures are values -------------------------------------------------------------------------------------------

${function:Stop-Operation} = {
    param([string]$Slug, [string]$Message, [string]$Path = '')
    $refusal = New-Object InvalidOperationException $Message
    $refusal.Data['slug'] = $Slug
    $refusal.Data['path'] = $Path
    throw $refusal
}

${function:Get-Cause} = {
    param([Exception]$Failure)
    while ($Failure -is [System.Management.Automation.RuntimeException] -and $Failure.InnerException) {
        $Failure = $Failure.InnerException
    }
    return $Failure
}

# Sharing and lock violation, a file Replace cannot remove; 11 is EWOULDBLOCK, how .NET says so on Linux.
$BusyCodes = @(0x80070020, 0x80070021, 0x80070497, 11)

${function:Get-Slug} = {
    param([Exception]$Cause)
    if ($Cause.Data.Contains('slug')) { return $Cause.Data['slug'] }
    switch ($Cause.GetType().Name) {
        'FileNotFoundException' { return 'not_found' }
        'DirectoryNotFoundException' { return 'not_found' }
        'DriveNotFoundException' { return 'not_found' }
        'UnauthorizedAccessException' { return 'access_denied' }
        'SecurityException' { return 'access_denied' }
        'PathTooLongException' { return 'invalid' }
        'NotSupportedException' { return 'invalid' }
        'IOException' { if ($BusyCodes -contains $Cause.HResult) { return 'busy' } }
    }
    if ($Cause -is [InvalidOperationException] -and $Cause.InnerException) { $Cause = $Cause.InnerException }
    if ($Cause -is [ComponentModel.Win32Exception] -and $OnWindows -and $Cause.NativeErrorCode -eq 5) { return 'access_denied' }
    return 'failed'
}

${function:Get-FailedResult} = {
    param([Exception]$Failure, $Fields)
    $cause = Get-Cause $Failure
    $result = @{ ok = $false; error = (Get-Slug $cause); message = ($cause.Message -replace '\s+', ' ').Trim() }
    $path = ''
    if ($cause.Data.Contains('path')) { $path = $cause.Data['path'] }
    foreach ($name in 'path', 'folder', 'program') {
        if (-not $path -and $Fields.ContainsKey($name) -and $Fields[$name] -is [string]) { $path = $Fields[$name] }
    }
    if ($path) { $result['path'] = $path }
    return $result
}

# ---- JSON: the reader of .NET (no limit of 2 MB, no guessing of dates), a writer that stays ASCII ------------------

${function:ConvertFrom-JsonLine} = {
    param([string]$Line)
    # The reader takes a document cut at its outermost level, two in a row and commas too many; we do not.
    $bones = [regex]::Replace($Line, '"(?:[^"\\]|\\.)*"', 's')
    $open = ($bones -replace '[^{]', '').Length
    if ($open -ne ($bones -replace '[^}]', '').Length -or $bones -match '\}\s*\{|,\s*[}\]]' -or $bones -notmatch '\A\s*\{') {
        throw (New-Object FormatException 'the line is not a JSON object')
    }
    $quotas = [Xml.XmlDictionaryReaderQuotas]::Max
    $bytes = [Text.Encoding]::UTF8.GetBytes($Line)
    $reader = [Runtime.Serialization.Json.JsonReaderWriterFactory]::CreateJsonReader($bytes, $quotas)
    $document = New-Object Xml.XmlDocument
    $document.Load($reader)
    return (ConvertFrom-JsonNode $document.DocumentElement)
}

${function:ConvertFrom-JsonNode} = {
    param([Xml.XmlElement]$Node)
    switch ($Node.GetAttribute('type')) {
        'string' { return $Node.InnerText }
        'boolean' { return $Node.InnerText -eq 'true' }
        'null' { return $null }
        'number' {
            $whole = [long]0
            if ([long]::TryParse($Node.InnerText, 'AllowLeadingSign', $Invariant, [ref]$whole)) { return $whole }
            return [double]::Parse($Node.InnerText, $Invariant)
        }
        'array' {
            $list = New-Object Collections.Generic.List[object]
            foreach ($child in $Node.ChildNodes) { $list.Add((ConvertFrom-JsonNode $child)) }
            return , $list
        }
    }
    $map = New-Object 'Collections.Generic.Dictionary[string,object]'
    foreach ($child in $Node.ChildNodes) {
        $key = $child.LocalName
        if ($child.NamespaceURI) { $key = $child.GetAttribute('item') }
        if ($child.GetAttribute('type') -eq 'string') { $map[$key] = $child.InnerText }
        else { $map[$key] = ConvertFrom-JsonNode $child }
    }
    return , $map
}

${function:Get-Quoted} = {
    param([string]$Text)
    if ($PlainText.IsMatch($Text)) { return '"' + $Text + '"' }
    $escape = [Text.RegularExpressions.MatchEvaluator] { '\u{0:x4}' -f [int][char]$args[0].Value }
    return '"' + $EscapedText.Replace($Text, $escape) + '"'
}

${function:Add-Json} = {
    param([Text.StringBuilder]$Out, $Value)
    if ($null -eq $Value) { [void]$Out.Append('null') }
    elseif ($Value -is [string]) { [void]$Out.Append((Get-Quoted $Value)) }
    elseif ($Value -is [bool]) { [void]$Out.Append($Value.ToString().ToLowerInvariant()) }
    elseif ($Value -is [Text.StringBuilder]) { [void]$Out.Append($Value.ToString()) }  # JSON already
    elseif ($Value -is [Collections.IDictionary]) {
        $before = '{'
        foreach ($key in $Value.Keys) {
            [void]$Out.Append($before).Append((Get-Quoted $key)).Append(':')
            Add-Json $Out $Value[$key]
            $before = ','
        }
        if ($before -eq '{') { [void]$Out.Append('{') }
        [void]$Out.Append('}')
    }
    elseif ($Value -is [Collections.IEnumerable]) {
        $before = '['
        foreach ($item in $Value) {
            [void]$Out.Append($before)
            Add-Json $Out $item
            $before = ','
        }
        if ($before -eq '[') { [void]$Out.Append('[') }
        [void]$Out.Append(']')
    }
    else { [void]$Out.Append(([IFormattable]$Value).ToString($null, $Invariant)) }
}

${function:ConvertTo-JsonLine} = {
    param($Value)
    $out = New-Object Text.StringBuilder
    Add-Json $out $Value
    return $out.ToString()
}

$TimeFormat = "yyyy-MM-dd'T'HH:mm:ss.fffffff'Z'"
${function:Get-TimeText} = {
    param([DateTime]$Time)
    return $Time.ToUniversalTime().ToString($TimeFormat, $Invariant)
}

# ---- fields of an operation ----------------------------------------------------------------------------------------

${function:Test-Kind} = {
    param($Value, [string]$Kind)
    switch ($Kind) {
        'text' { return $Value -is [string] }
        'flag' { return $Value -is [bool] }
        'object' { return $Value -is [Collections.IDictionary] }
        'whole' { return $Value -is [long] -and $Value -ge 0 }
        'seconds' { return ($Value -is [long] -or $Value -is [double]) -and $Value -ge 0 }
        'texts' { return $Value -is [Collections.Generic.List[object]] -and -not @($Value | Where-Object { $_ -isnot [string] }) }
        'map of texts' {
            if ($Value -isnot [Collections.IDictionary]) { return $false }
            foreach ($item in $Value.Values) { if ($item -isnot [string]) { return $false } }
            return $true
        }
    }
}

${function:Get-Field} = {
    param($Fields, [string]$Name, [string]$Kind, $Default = $Required)
    if (-not $Fields.ContainsKey($Name)) {
        if ([object]::ReferenceEquals($Default, $Required)) { Stop-Operation 'invalid' "$($Fields['op']) needs the field $Name" }
        return , $Default
    }
    if ($null -eq $Fields[$Name] -and $null -eq $Default) { return $null }
    if (-not (Test-Kind $Fields[$Name] $Kind)) { Stop-Operation 'invalid' "$($Fields['op']): the field $Name must be: $Kind" }
    return , $Fields[$Name]
}

${function:Get-Bytes} = {
    param([string]$Text, [string]$Name)
    try { return , [Convert]::FromBase64String($Text) }
    catch { Stop-Operation 'invalid' "the field $Name must be base64" }
}

${function:Get-NameFault} = {
    param([string]$Name)
    if ($Name -eq '') { return 'an empty segment' }
    if ($Name -eq '.' -or $Name -eq '..') { return 'a relative segment' }
    if ($Name.EndsWith('.') -or $Name.EndsWith(' ')) { return 'a segment that ends in a dot or a blank' }
    if ($ForbiddenInName.IsMatch($Name)) { return 'a character that no file name holds' }
    if ($DeviceName.IsMatch($Name)) { return 'the name of a device' }
    if ($Name.Length -gt 255) { return 'a segment of more than 255 characters' }
    return ''
}

${function:Get-Path} = {
    param($Fields, [string]$Name = 'path', $Default = $Required)
    $path = Get-Field $Fields $Name -Kind 'text' -Default $Default
    if ($null -eq $path) { return $null }
    Assert-Path $path
    return $path
}

${function:Assert-Path} = {
    param([string]$Path)
    if ($SoundPaths.Contains($Path)) { return }
    $root = '/'
    if ($OnWindows) { $root = '[A-Za-z]:\\' }
    if ($Path -notmatch "\A$root") { Stop-Operation 'invalid' 'the path is not absolute with a drive and backslashes' -Path $Path }
    $rest = $Path.Substring($Matches[0].Length)
    if ($rest -ne '') {
        foreach ($segment in $rest.Split($Separator)) {
            $fault = Get-NameFault $segment
            if ($fault) { Stop-Operation 'invalid' "the path holds $fault" -Path $Path }
        }
    }
    [void]$SoundPaths.Add($Path)
}

# ---- files ---------------------------------------------------------------------------------------------------------

$Sha256 = New-Object Security.Cryptography.SHA256CryptoServiceProvider  # the one that a FIPS policy leaves alone

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

# What is there, or null. Exists would take a look that was refused for absence.
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
    if ($entry -is [IO.DirectoryInfo]) { Stop-Operation 'invalid' 'a file is wanted and this is a folder' -Path $Path }
    return $entry
}

${function:Get-Folder} = {
    param([string]$Path)
    $entry = Get-Entry $Path
    if ($null -eq $entry) { Stop-Operation 'not_found' 'there is no such folder' -Path $Path }
    if ($entry -is [IO.FileInfo]) { Stop-Operation 'invalid' 'a folder is wanted and this is a file' -Path $Path }
    return $entry
}

${function:Test-ReadOnly} = {
    param($Entry)
    return $Entry -is [IO.FileInfo] -and [bool]($Entry.Attributes -band [IO.FileAttributes]::ReadOnly)
}

${function:Get-Description} = {
    param($Entry, [bool]$Hashed)
    $result = @{ kind = 'folder'; size = 0; mtime = (Get-TimeText $Entry.LastWriteTimeUtc) }
    if ($Entry -is [IO.FileInfo]) {
        $result['kind'] = 'file'
        $result['size'] = $Entry.Length
        if ($Hashed) { $result['hash'] = Get-HashOfFile $Entry.FullName }
    }
    return $result
}

${function:Invoke-Stat} = {
    param($Fields)
    $path = Get-Path $Fields
    $hashed = Get-Field $Fields 'hash' -Kind 'flag' -Default $false
    $entry = Get-Entry $path
    if ($null -eq $entry) { return @{ exists = $false } }
    $result = Get-Description $entry $hashed
    $result['exists'] = $true
    $result['readonly'] = Test-ReadOnly $entry
    return $result
}

# A log that its service holds open is no reason to see nothing of the folder: its entry goes without a hash.
${function:Get-HashIfReadable} = {
    param([string]$Path)
    try { return Get-HashOfFile $Path }
    catch { if ('busy', 'access_denied', 'not_found' -notcontains (Get-Slug (Get-Cause $_.Exception))) { throw } }
}

${function:Invoke-List} = {
    param($Fields)
    $path = Get-Path $Fields
    $hashed = Get-Field $Fields 'hash' -Kind 'flag' -Default $false
    $limit = Get-Field $Fields 'limit' -Kind 'whole' -Default 10000
    $found = (Get-Folder $path).GetFileSystemInfos()
    $names = [string[]]@(foreach ($entry in $found) { $entry.Name })
    # As IComparer: the generic overload would be handed a converted copy, and sort that.
    [Array]::Sort([Array]$names, [Array]$found, [Collections.IComparer][StringComparer]::OrdinalIgnoreCase)
    # Ten thousand entries as values, written as JSON afterwards, would take several times as long.
    $entries = New-Object Text.StringBuilder '['
    $count = [Math]::Min($found.Length, $limit)
    for ($at = 0; $at -lt $count; $at++) {
        $entry = $found[$at]
        $kind, $size, $hash = 'folder', 0, $null
        if ($entry -is [IO.FileInfo]) {
            $kind, $size = 'file', [long]$entry.Length
            if ($hashed) { $hash = Get-HashIfReadable $entry.FullName }
        }
        if ($at) { [void]$entries.Append(',') }
        $name = $names[$at]
        if ($PlainText.IsMatch($name)) { $name = """$name""" } else { $name = Get-Quoted $name }
        $time = $entry.LastWriteTimeUtc.ToString($TimeFormat, $Invariant)
        [void]$entries.Append("{""name"":$name,""kind"":""$kind"",""size"":$size,""mtime"":""$time""")
        if ($hash) { [void]$entries.Append(",""hash"":""$hash""") }
        [void]$entries.Append('}')
    }
    return @{ entries = $entries.Append(']'); truncated = $found.Length -gt $limit }
}

${function:Invoke-Read} = {
    param($Fields)
    $path = Get-Path $Fields
    $limit = Get-Field $Fields 'limit' -Kind 'whole' -Default 4194304
    $file = Get-File $path
    if ($file.Length -gt $limit) { Stop-Operation 'invalid' "the file has $($file.Length) bytes, more than $limit" -Path $path }
    $stream = [IO.File]::Open($path, 'Open', 'Read', 'ReadWrite, Delete')
    $memory = New-Object IO.MemoryStream
    try { $stream.CopyTo($memory) } finally { $stream.Dispose() }
    $bytes = $memory.ToArray()
    return @{
        data = [Convert]::ToBase64String($bytes); size = $bytes.Length; hash = Get-Hash $bytes
        mtime = Get-TimeText $file.LastWriteTimeUtc
    }
}

${function:Invoke-Hash} = {
    param($Fields)
    $file = Get-File (Get-Path $Fields)
    return @{ hash = Get-HashOfFile $file.FullName; size = $file.Length }
}

# ---- backup: the old file is kept and a line says so, before anything changes --------------------------------------

# What lies here holds keys and connection strings, and everyone may read below ProgramData: so not this folder.
${function:New-ProtectedFolder} = {
    param([string]$Folder)
    [void][IO.Directory]::CreateDirectory($Folder)
    if (-not $OnWindows) { return }
    $user = [Security.Principal.WindowsIdentity]::GetCurrent().User.Value
    $rules = New-Object Security.AccessControl.DirectorySecurity
    $rules.SetSecurityDescriptorSddlForm("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;$user)")
    Set-Acl -LiteralPath $Folder -AclObject $rules
}

${function:Get-Backup} = {
    param($Fields)
    $folder = Get-Path $Fields 'backup' -Default $null
    if ($null -eq $folder) { return $null }
    return @{ folder = $folder; files = "$folder$($Separator)files"; next = 0 }
}

${function:Open-Backup} = {
    param($Backup)
    if ($null -eq (Get-Entry $Backup.folder)) { New-ProtectedFolder $Backup.folder }
    [void][IO.Directory]::CreateDirectory($Backup.files)
    $Backup.next = 1
    foreach ($file in [IO.Directory]::GetFiles($Backup.files)) {
        $number = 0
        if ([int]::TryParse([IO.Path]::GetFileName($file), [ref]$number) -and $number -ge $Backup.next) { $Backup.next = $number + 1 }
    }
}

${function:Add-Backup} = {
    param($Backup, [string]$Path, $Before, $After)
    if ($null -eq $Backup) { return $null }
    if ($Backup.next -eq 0) { Open-Backup $Backup }
    $place = $null
    $kept = $null
    if ($Before -and $Before -ne 'folder') {
        $kept = 'files\' + $Backup.next
        $place = "$($Backup.files)$Separator$($Backup.next)"
        [IO.File]::Copy($Path, $place, $false)
        $Backup.next += 1
    }
    $line = @{ at = Get-TimeText ([DateTime]::UtcNow); path = $Path; before = $Before; after = $After; kept = $kept }
    $bytes = $Ascii.GetBytes((ConvertTo-JsonLine $line) + "`n")
    $stream = [IO.File]::Open("$($Backup.folder)$($Separator)manifest.jsonl", 'Append', 'Write', 'Read')
    try {
        $stream.Write($bytes, 0, $bytes.Length)
        $stream.Flush($true)
    }
    finally { $stream.Dispose() }
    return $place
}

# ---- guard: where a request may change something, and whether its writer is still the one ---------------------------

# The operations that change files, and which of their fields says where.
$Changing = @{ write = 'path'; spread = 'folder'; mkdir = 'path'; remove = 'path'; touch = 'path' }

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

# How many characters of the path are the longest of the folders that it lies in; -1 when it lies in none.
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

# Deduplicated files carry a reparse point too and are files like any other. The tag of what stands for another file has the
# bit 0x20000000; .NET 4.5 shows no tags, so the system's tool is asked. No answer counts as a link.
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

# A file that is a link would be replaced, or be written to where it leads, as the system likes; neither is what was asked.
${function:Assert-NoLink} = {
    param([string]$Path, [IO.FileAttributes]$Attributes)
    if (-not ($Attributes -band [IO.FileAttributes]::ReparsePoint)) { return }
    if ($Attributes -band [IO.FileAttributes]::Directory) { Stop-Operation 'invalid' 'the path leaves its folder through a junction' -Path $Path }
    if (Test-Link $Path) { Stop-Operation 'invalid' 'the path leaves its folder through a link' -Path $Path }
}

# Nothing on the way down to the path leads elsewhere; what is above the folder it starts from may.
${function:Assert-Way} = {
    param([string]$Path, [int]$From)
    $end = $From
    if ($end -lt 0) { $end = $Path.IndexOf($Separator) }
    $last = $Path.LastIndexOf($Separator)
    if ($last -gt $end -and $PlainFolders.Contains($Path.Substring(0, $last))) { $end = $last }
    while ($end -lt $Path.Length) {
        $end = $Path.IndexOf($Separator, $end + 1)
        if ($end -lt 0) { $end = $Path.Length }
        $place = $Path.Substring(0, $end)
        if ($PlainFolders.Contains($place)) { continue }
        if (-not ([IO.Directory]::Exists($place) -or [IO.File]::Exists($place))) { return }
        $attributes = [IO.File]::GetAttributes($place)
        Assert-NoLink $place $attributes
        if ($attributes -band [IO.FileAttributes]::Directory) { [void]$PlainFolders.Add($place) }
    }
}

${function:Assert-Target} = {
    param([string]$Path, $Folders)
    if ($null -eq $Folders) { return Assert-Way $Path (-1) }
    $from = Measure-Folder $Path $Folders
    if ($from -lt 0) { Stop-Operation 'invalid' 'the path lies in none of the folders of the guard' -Path $Path }
    Assert-Way $Path $from
}

# Held for itself by whoever changes files; the system lets go of it when the process ends, in whatever way.
${function:Open-Fence} = {
    param($Fence)
    $file = $Fence.file
    if ([IO.Directory]::Exists($file)) { Stop-Operation 'invalid' 'a folder stands where the fence file is wanted' -Path $file }
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

# The newest writer that a fence file tells of. One that was just made, or whose bytes a power cut took, is of a writer that had
# changed nothing yet; one of an older agent tells of no run.
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
        Stop-Operation 'failed' 'the fence file holds something else than a number; see what wrote it' -Path $File
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

# One line of a fixed length, written by one call inside one sector: a reader finds the old one or the new one.
${function:Set-Fence} = {
    param($Stream, $Fence)
    $seen = Read-Fence $Stream $Fence.file
    $same = $seen.number -eq $Fence.number
    if ($seen.number -gt $Fence.number -or ($same -and ($seen.run -cne $Fence.run -or $seen.claim -gt $Fence.claim))) {
        $writers = "a newer writer ($(Get-Writer $seen)) has taken this node: this request ($(Get-Writer $Fence))"
        Stop-Operation 'conflict' "$writers came too late" -Path $Fence.file
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

# What is held while the operation runs, or null.
${function:Enter-Guard} = {
    param($Fields, $Guard)
    $fence = $Guard.fence
    if ($Changing.ContainsKey($Fields['op'])) {
        $path = Get-Path $Fields $Changing[$Fields['op']]
        Assert-Target $path $Guard.folders
        if ($Fields.ContainsKey('backup') -and $null -ne $Fields['backup']) {
            $backup = Get-Path $Fields 'backup'
            Assert-Target $backup $Guard.folders
            foreach ($name in 'files', 'manifest.jsonl') { Assert-Way "$backup$Separator$name" $backup.Length }
        }
        if ($null -eq $fence) { return $null }
        if ($Names.Equals($path, $fence.file)) { Stop-Operation 'invalid' 'the fence file is not changed behind its own fence' -Path $path }
        Assert-Way $fence.file (Measure-Folder $fence.file $Guard.folders)
        return Enter-Fence $fence
    }
    if ($fence -and $Fields['op'] -eq 'service' -and $Fields.ContainsKey('action') -and 'stop', 'start' -ccontains $Fields['action']) {
        Assert-Way $fence.file (Measure-Folder $fence.file $Guard.folders)
        (Enter-Fence $fence).Dispose()
    }
    return $null
}

# ---- changing files ------------------------------------------------------------------------------------------------

${function:Test-Alive} = {
    param([int]$Id, [string]$File)
    if ($Id -eq $PID) { return $false }
    try { return [Diagnostics.Process]::GetProcessById($Id).StartTime.ToUniversalTime() -le [IO.File]::GetLastWriteTimeUtc($File) }
    catch { return (Get-Cause $_.Exception) -isnot [ArgumentException] }
}

# Temporary files of agents that are gone.
${function:Clear-Stray} = {
    param([string]$Folder)
    foreach ($file in [IO.Directory]::GetFiles($Folder, '*.tmp')) {
        $found = $StrayName.Match($file)
        if ($found.Success -and -not (Test-Alive $found.Groups[1].Value $file)) { [IO.File]::Delete($file) }
    }
}

# All of the old bytes or all of the new ones, whenever we are killed. A scanner may hold a file for a moment.
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
    if ((Get-HashOfFile $Path) -ne $Hash) { Stop-Operation 'failed' 'the file does not hold what was just written' -Path $Path }
}

# The file keeps its attributes, and its name as it is on the disk: Replace would take the one it is given.
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
    if ($expect -notmatch '\A(absent|any|[0-9a-f]{64})\z') { Stop-Operation 'invalid' 'expect must be a hash, absent or any' -Path $path }
    $existing = Get-Entry $path
    $before = $null
    if ($null -ne $existing) { $before = Get-HashOfFile (Get-File $path).FullName }
    else { [void](Get-Folder ([IO.Path]::GetDirectoryName($path))) }
    $after = Get-Hash $bytes
    if ($before -eq $after) { return @{ changed = $false; before = $before; after = $after; backup = $null } }
    if ($expect -eq 'absent' -and $before) { Stop-Operation 'conflict' 'there is a file already' -Path $path }
    if ($expect.Length -eq 64 -and $expect -ne $before) { Stop-Operation 'conflict' "the file's hash is not the expected one" -Path $path }
    if (Test-ReadOnly $existing) { Stop-Operation 'access_denied' 'the file is read-only' -Path $path }
    Clear-Stray ([IO.Path]::GetDirectoryName($path))
    $place = Add-Backup $backup $path -Before $before -After $after
    Set-File $path $bytes -Hash $after -Existing $existing
    return @{ changed = $true; before = $before; after = $after; backup = $place }
}

# Everything that can be refused is looked at before the first byte is written.
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
            if ($entry -is [IO.DirectoryInfo]) { Stop-Operation 'invalid' 'a file is wanted and this is a folder' -Path $path }
            $before = Get-HashOfFile $path
            if ($before -eq $blob.hash) { continue }
            if (Test-ReadOnly $entry) { Stop-Operation 'access_denied' 'the file is read-only' -Path $path }
        }
        @{ name = $name; path = $path; blob = $blob; before = $before; entry = $entry }
    }
}

${function:Invoke-Spread} = {
    param($Fields)
    $folder = Get-Path $Fields 'folder'
    $files = Get-Field $Fields 'files' -Kind 'map of texts'
    $encoded = Get-Field $Fields 'blobs' -Kind 'map of texts'
    $backup = Get-Backup $Fields
    $blobs = @{}
    foreach ($id in $encoded.Keys) {
        $bytes = Get-Bytes $encoded[$id] "blobs.$id"
        $blobs[$id] = @{ bytes = $bytes; hash = Get-Hash $bytes }
    }
    foreach ($name in $files.Keys) {
        $fault = Get-NameFault $name
        if ($fault) { Stop-Operation 'invalid' "a name of files is $fault" -Path $folder }
        if (-not $encoded.ContainsKey($files[$name])) { Stop-Operation 'invalid' "files names a blob that is not there: $($files[$name])" -Path $folder }
    }
    $unequal = @(Get-Unequal $folder -Files $files -Blobs $blobs)
    if ($unequal) { Clear-Stray $folder }
    foreach ($one in $unequal) {
        [void](Add-Backup $backup $one.path -Before $one.before -After $one.blob.hash)
        Set-File $one.path $one.blob.bytes -Hash $one.blob.hash -Existing $one.entry
    }
    return @{ written = @(foreach ($one in $unequal) { $one.name }); unchanged = $files.Count - $unequal.Count }
}

# The folders that it takes to have this one, outermost first.
${function:Get-MissingFolder} = {
    param([string]$Path)
    $missing = New-Object Collections.Generic.Stack[string]
    $folder = $Path
    while (-not [IO.Directory]::Exists($folder)) {
        if ($null -ne (Get-Entry $folder)) { Stop-Operation 'invalid' 'a file of that name stands there' -Path $folder }
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
    if ($expect -cnotmatch '\A(folder|any|[0-9a-fA-F]{64})\z') { Stop-Operation 'invalid' 'expect must be a hash, folder or any' -Path $path }
    $entry = Get-Entry $path
    if ($null -eq $entry) { return @{ changed = $false } }
    $before = 'folder'
    if ($entry -is [IO.FileInfo]) { $before = Get-HashOfFile $path }
    elseif ($null -eq $entry.Parent) { Stop-Operation 'invalid' 'a drive is not removed' -Path $path }
    if ($expect -ne 'any' -and $expect -ne $before) { Stop-Operation 'conflict' 'what is there is not what was expected' -Path $path }
    if (Test-ReadOnly $entry) { Stop-Operation 'access_denied' 'the file is read-only' -Path $path }
    if ($before -eq 'folder' -and $entry.GetFileSystemInfos().Length) { Stop-Operation 'failed' 'the folder is not empty' -Path $path }
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

${function:Invoke-Version} = {
    param($Fields)
    $file = Get-File (Get-Path $Fields)
    $version = [Diagnostics.FileVersionInfo]::GetVersionInfo($file.FullName).FileVersion
    if (-not $version) { $version = $null }
    return @{ version = $version; size = $file.Length; hash = Get-HashOfFile $file.FullName }
}

# ---- the machine ---------------------------------------------------------------------------------------------------

$Hives = @{ HKLM = 'LocalMachine'; HKCU = 'CurrentUser'; HKCR = 'ClassesRoot'; HKU = 'Users'; HKCC = 'CurrentConfig' }

${function:Get-RegistryValue} = {
    param([string]$Key, [string]$Name)
    $hive, $rest = $Key.Split('\', 2)
    if (-not $OnWindows) { Stop-Operation 'not_found' 'this system has no registry' }
    $base = [Microsoft.Win32.RegistryKey]::OpenBaseKey($Hives[$hive], 'Registry64')
    $opened = $base.OpenSubKey("$rest")
    if ($null -eq $opened) { Stop-Operation 'not_found' "there is no registry key $Key" }
    try { return , $opened.GetValue($Name, $null, 'DoNotExpandEnvironmentNames') } finally { $opened.Dispose() }
}

${function:Invoke-Registry} = {
    param($Fields)
    $key = Get-Field $Fields 'key' -Kind 'text'
    $name = Get-Field $Fields 'name' -Kind 'text'
    if (-not $Hives.ContainsKey($key.Split('\')[0])) { Stop-Operation 'invalid' "the key must begin with HKLM\, HKCU\, HKCR\, HKU\ or HKCC\: $key" }
    $value = Get-RegistryValue $key $name
    if ($null -eq $value) { Stop-Operation 'not_found' "the registry key $key has no value named $name" }
    if ($value -is [byte[]]) { $value = [BitConverter]::ToString($value) }
    if ($value -is [string[]]) { $value = $value -join "`n" }
    return @{ value = [Convert]::ToString($value, $Invariant) }
}

${function:Get-SystemName} = {
    if (-not $OnWindows) { return [Environment]::OSVersion.VersionString }
    $name = Get-RegistryValue 'HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion' 'ProductName'
    return "$name $([Environment]::OSVersion.Version)".Trim()
}

${function:Test-Administrator} = {
    if (-not $OnWindows) { return [Environment]::UserName -eq 'root' }
    $principal = New-Object Security.Principal.WindowsPrincipal ([Security.Principal.WindowsIdentity]::GetCurrent())
    return $principal.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)
}

${function:Invoke-Hello} = {
    $drives = @(foreach ($drive in [IO.DriveInfo]::GetDrives()) {
            if ($OnWindows -and $drive.DriveType -eq 'Fixed' -and $drive.IsReady) {
                @{ name = $drive.Name.TrimEnd('\'); free = $drive.AvailableFreeSpace }
            }
        })
    return @{
        agent = $ProtocolVersion; powershell = $PSVersionTable.PSVersion.ToString(); edition = Get-Edition
        language_mode = $ExecutionContext.SessionState.LanguageMode.ToString(); clr = [Environment]::Version.ToString()
        os = Get-SystemName; computer = [Environment]::MachineName; admin = Test-Administrator
        code_page = [Console]::OutputEncoding.CodePage; drives = $drives; system_drive = "$env:SystemDrive"
        program_data = [Environment]::GetFolderPath('CommonApplicationData'); winrm = Get-WinrmQuota
    }
}

$Quotas = @(
    'IdleTimeout', 'MaxConcurrentOperations', 'MaxConcurrentOperationsPerUser', 'MaxConcurrentUsers', 'MaxConnections'
    'MaxEnvelopeSizekb', 'MaxMemoryPerShellMB', 'MaxProcessesPerShell', 'MaxShellRunTime', 'MaxShellsPerUser', 'MaxTimeoutms')

# A node whose quotas cannot be read is greeted all the same.
${function:Get-WinrmQuota} = {
    if (-not $OnWindows) { return $null }
    try {
        $wsman = New-Object -ComObject WSMan.Automation
        $session = $wsman.GetType().InvokeMember('CreateSession', 'InvokeMethod', $null, $wsman, $null)
        $session.Timeout = 5000
        return ConvertFrom-WinrmConfig $session.Get('winrm/config')
    }
    catch { return $null }
}

${function:ConvertFrom-WinrmConfig} = {
    param([string]$Text)
    $settings = New-Object Xml.XmlReaderSettings
    $settings.DtdProcessing = 'Prohibit'
    $settings.XmlResolver = $null
    $document = New-Object Xml.XmlDocument
    $document.Load([Xml.XmlReader]::Create((New-Object IO.StringReader $Text), $settings))
    $found = @{}
    foreach ($element in $document.GetElementsByTagName('*')) {
        if ($Quotas -ccontains $element.LocalName) { $found[$element.LocalName] = $element.InnerText.Trim() }
    }
    if ($found.Count) { return $found }
    return $null
}

${function:Get-Edition} = {
    if ($PSVersionTable.ContainsKey('PSEdition')) { return $PSVersionTable.PSEdition }
    return 'Desktop'
}

${function:Get-Boot} = {
    if ($OnWindows) { return (Get-CimInstance -ClassName Win32_OperatingSystem).LastBootUpTime }
    $seconds = [Diagnostics.Stopwatch]::GetTimestamp() / [double][Diagnostics.Stopwatch]::Frequency
    return [DateTime]::UtcNow.AddSeconds(-$seconds)
}

${function:Invoke-Clock} = {
    $boot = Get-Boot
    return @{ boot = Get-TimeText $boot; now = Get-TimeText ([DateTime]::UtcNow) }
}

${function:Invoke-Tcp} = {
    param($Fields)
    $name = Get-Field $Fields 'host' -Kind 'text'
    $port = Get-Field $Fields 'port' -Kind 'whole'
    $timeout = Get-Field $Fields 'timeout' -Kind 'seconds' -Default 5
    if ($port -lt 1 -or $port -gt 65535) { Stop-Operation 'invalid' 'the port must be 1 to 65535' }
    $client = New-Object Net.Sockets.TcpClient
    try {
        $pending = $client.BeginConnect($name, $port, $null, $null)
        if (-not $pending.AsyncWaitHandle.WaitOne([int]($timeout * 1000))) {
            return @{ reachable = $false; message = "no answer from $name port $port in $timeout s" }
        }
        $client.EndConnect($pending)
        return @{ reachable = $true }
    }
    catch { return @{ reachable = $false; message = (Get-Cause $_.Exception).Message } }
    finally { $client.Close() }
}

${function:Invoke-Http} = {
    param($Fields)
    $url = Get-Field $Fields 'url' -Kind 'text'
    $timeout = Get-Field $Fields 'timeout' -Kind 'seconds' -Default 10
    $limit = Get-Field $Fields 'limit' -Kind 'whole' -Default 65536
    $uri = $null
    if (-not [Uri]::TryCreate($url, 'Absolute', [ref]$uri) -or $uri.Scheme -ne 'http') { Stop-Operation 'invalid' "this is no http URL: $url" }
    $request = [Net.WebRequest]::Create($uri)
    $request.Proxy = $null
    $request.AllowAutoRedirect = $false
    $request.KeepAlive = $false
    $request.Timeout = $request.ReadWriteTimeout = [Math]::Max(1, [int]($timeout * 1000))
    $response = Get-Response $request
    $status = [int]$response.StatusCode
    try { $body = Get-StreamHead ($response.GetResponseStream()) $limit } finally { $response.Close() }
    return @{ status = $status; body = [Convert]::ToBase64String($body) }
}

${function:Get-Response} = {
    param($Request)
    $watch = [Diagnostics.Stopwatch]::StartNew()
    try { return $Request.GetResponse() }
    catch {
        $cause = Get-Cause $_.Exception
        if ($cause -isnot [Net.WebException]) { throw }
        if ($cause.Response) { return $cause.Response }
        $slug = 'failed'
        # Which status a passed deadline has depends on where the wait was cut; the clock does not.
        if ($cause.Status -eq 'Timeout' -or $watch.ElapsedMilliseconds -ge $Request.Timeout) { $slug = 'timeout' }
        Stop-Operation $slug $cause.Message
    }
}

${function:Get-StreamHead} = {
    param($Stream, [int]$Limit)
    $bytes = New-Object byte[] $Limit
    $have = 0
    while ($have -lt $Limit -and ($got = $Stream.Read($bytes, $have, $Limit - $have)) -gt 0) { $have += $got }
    $head = New-Object byte[] $have
    [Array]::Copy($bytes, $head, $have)
    return , $head
}

# ---- services ------------------------------------------------------------------------------------------------------

${function:Get-Controller} = {
    param([string]$Name)
    if (-not $OnWindows) { Stop-Operation 'not_found' 'this system has no Windows services' }
    [void][Reflection.Assembly]::Load('System.ServiceProcess, Version=4.0.0.0, Culture=neutral, PublicKeyToken=b03f5f7f11d50a3a')
    # Asked by name alone, the class also takes display names, and PowerShell hides what a property throws.
    foreach ($one in [ServiceProcess.ServiceController]::GetServices()) {
        if ($one.ServiceName -eq $Name) { return $one }
        $one.Dispose()
    }
    Stop-Operation 'not_found' "there is no service named $Name"
}

${function:Get-ServiceRow} = {
    param([string]$Name)
    $literal = $Name.Replace('\', '\\').Replace("'", "\'")
    return Get-CimInstance -ClassName Win32_Service -Filter "Name='$literal'"
}

${function:Get-StartTime} = {
    param([int]$Id)
    try { return Get-TimeText ([Diagnostics.Process]::GetProcessById($Id).StartTime) }
    catch { return $null }
}

${function:Get-RunningDependent} = {
    param($Controller)
    foreach ($other in $Controller.DependentServices) {
        if ($other.Status -ne 'Stopped') { $other.ServiceName }
        $other.Dispose()
    }
}

${function:Get-ServiceFact} = {
    param($Controller)
    $row = Get-ServiceRow $Controller.ServiceName
    $started = $null
    if ($row.ProcessId) { $started = Get-StartTime $row.ProcessId }
    return @{
        name = $row.Name; display = $row.DisplayName; image_path = $row.PathName; pid = [int]$row.ProcessId; started = $started
        state = $row.State.ToLowerInvariant().Replace(' ', '_'); start_type = $row.StartMode.ToLowerInvariant()
        dependents = @(Get-RunningDependent $Controller)
    }
}

# Polls until the service is in one of the states.
${function:Wait-Service} = {
    param($Controller, [string[]]$Wanted, $Clock, [double]$Deadline)
    while ($true) {
        $Controller.Refresh()
        $state = $Controller.Status.ToString()
        if ($Wanted -contains $state) { return $state }
        if ($Clock.Elapsed.TotalSeconds -ge $Deadline) {
            $word = ($state -creplace '(?<=[a-z])(?=[A-Z])', '_').ToLowerInvariant()
            Stop-Operation 'timeout' "the service $($Controller.ServiceName) is still $word after $Deadline s"
        }
        [Threading.Thread]::Sleep(100)
    }
}

${function:Stop-ServiceSafely} = {
    param($Controller, $Clock, [double]$Deadline)
    $state = Wait-Service $Controller ('Stopped', 'StopPending', 'Running', 'Paused') -Clock $Clock -Deadline $Deadline
    if ($state -eq 'Stopped') { return $false }
    $running = @(Get-RunningDependent $Controller) -join ', '
    if ($running) { Stop-Operation 'failed' "services that depend on $($Controller.ServiceName) are running: $running" }
    if ($state -ne 'StopPending') { $Controller.Stop() }
    [void](Wait-Service $Controller 'Stopped' -Clock $Clock -Deadline $Deadline)
    return $true
}

${function:Start-ServiceSafely} = {
    param($Controller, $Clock, [double]$Deadline)
    $name = $Controller.ServiceName
    $state = Wait-Service $Controller ('Stopped', 'StartPending', 'Running', 'Paused') -Clock $Clock -Deadline $Deadline
    if ($state -eq 'Running') { return $false }
    if ($state -eq 'Paused') { Stop-Operation 'failed' "the service $name is paused" }
    if ((Get-ServiceRow $name).StartMode -eq 'Disabled') { Stop-Operation 'failed' "the service $name is disabled and cannot be started" }
    if ($state -eq 'Stopped') { $Controller.Start() }
    if ((Wait-Service $Controller ('Running', 'Stopped') -Clock $Clock -Deadline $Deadline) -eq 'Stopped') {
        Stop-Operation 'failed' "the process of $name ended while it was starting, exit code $((Get-ServiceRow $name).ExitCode)"
    }
    return $true
}

${function:Invoke-Service} = {
    param($Fields)
    $name = Get-Field $Fields 'name' -Kind 'text'
    $action = Get-Field $Fields 'action' -Kind 'text' -Default 'query'
    $deadline = Get-Field $Fields 'deadline' -Kind 'seconds' -Default 60
    if ('query', 'stop', 'start' -cnotcontains $action) { Stop-Operation 'invalid' 'action must be query, stop or start' }
    $clock = [Diagnostics.Stopwatch]::StartNew()
    $controller = Get-Controller $name
    try {
        $changed = $false
        if ($action -eq 'stop') { $changed = Stop-ServiceSafely $controller -Clock $clock -Deadline $deadline }
        if ($action -eq 'start') { $changed = Start-ServiceSafely $controller -Clock $clock -Deadline $deadline }
        $result = Get-ServiceFact $controller
    }
    finally { $controller.Dispose() }
    $result['changed'] = $changed
    return $result
}

# ---- programs ------------------------------------------------------------------------------------------------------

# One argument as the C runtime of Windows splits it again.
${function:Get-Argument} = {
    param([string]$Text)
    if ($Text -match '\A[^\s"]+\z') { return $Text }
    return '"' + ($Text -replace '(\\*)"', '$1$1\"' -replace '(\\+)\z', '$1$1') + '"'
}

${function:Start-Program} = {
    param([string]$Program, $Arguments)
    $info = New-Object Diagnostics.ProcessStartInfo $Program
    $info.Arguments = @(foreach ($text in $Arguments) { Get-Argument $text }) -join ' '
    $info.UseShellExecute = $false
    $info.CreateNoWindow = $true
    $info.RedirectStandardInput = $info.RedirectStandardOutput = $info.RedirectStandardError = $true
    $process = [Diagnostics.Process]::Start($info)
    $process.StandardInput.Close()
    return $process
}

${function:Stop-Tree} = {
    param($Process)
    if ($Process.HasExited) { return }
    if ((Get-Edition) -eq 'Core') { $Process.Kill($true) }
    else { [void](Start-Program "$env:SystemRoot\System32\taskkill.exe" ('/T', '/F', '/PID', "$($Process.Id)")).WaitForExit(10000) }
}

# Takes what has arrived on a stream; says whether there was anything.
${function:Read-Arrived} = {
    param($Output)
    if ($null -eq $Output.task -or -not $Output.task.IsCompleted) { return $false }
    $count = $Output.task.Result
    $room = [Math]::Min($count, 65536 - $Output.text.Length)
    [void]$Output.text.Append($Output.buffer, 0, $room)
    $Output.task = $null
    if ($count) { $Output.task = $Output.reader.ReadAsync($Output.buffer, 0, $Output.buffer.Length) }
    return $true
}

${function:New-Output} = {
    param($Reader)
    $buffer = New-Object char[] 8192
    return @{ reader = $Reader; buffer = $buffer; text = New-Object Text.StringBuilder; task = $Reader.ReadAsync($buffer, 0, 8192) }
}

# A program that left a child behind keeps the streams open: two seconds after its own end we have what it said.
${function:Wait-Program} = {
    param($Process, $Outputs, [double]$Deadline)
    $clock = [Diagnostics.Stopwatch]::StartNew()
    $ended = [double]::MaxValue
    while ($clock.Elapsed.TotalSeconds -lt $ended + 2) {
        $busy = @(foreach ($output in $Outputs) { Read-Arrived $output }) -contains $true
        if (-not $Process.HasExited) {
            if ($clock.Elapsed.TotalSeconds -gt $Deadline) { return $false }
        }
        elseif (-not ($Outputs[0].task -or $Outputs[1].task)) { return $true }
        elseif ($ended -eq [double]::MaxValue) { $ended = $clock.Elapsed.TotalSeconds }
        if (-not $busy) { [Threading.Thread]::Sleep(10) }
    }
    return $true
}

${function:Invoke-Run} = {
    param($Fields)
    $program = Get-Path $Fields 'program'
    $list = New-Object Collections.Generic.List[object]
    $arguments = Get-Field $Fields 'args' -Kind 'texts' -Default $list
    $deadline = Get-Field $Fields 'deadline' -Kind 'seconds' -Default 60
    $process = Start-Program (Get-File $program).FullName $arguments
    $outputs = @((New-Output $process.StandardOutput), (New-Output $process.StandardError))
    if (-not (Wait-Program $process $outputs -Deadline $deadline)) {
        Stop-Tree $process
        Stop-Operation 'timeout' "the program did not end in $deadline s and was ended" -Path $program
    }
    return @{ exit = $process.ExitCode; stdout = $outputs[0].text.ToString(); stderr = $outputs[1].text.ToString() }
}

# ---- requests and replies ------------------------------------------------------------------------------------------

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
        $request.fault = "the request is of another version than $ProtocolVersion"
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
    $SoundPaths.Clear()
    $PlainFolders.Clear()
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

# Names and hashes of a large cluster's files are much alike, and the wire carries all of it in base64 once more.
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

# In batch the bootstrap already has all lines.
$Waiting = $null
if (Test-Path -LiteralPath 'variable:Received') { $Waiting = $Received }

${function:Read-Line} = {
    if ($null -eq $Waiting) { return [Console]::In.ReadLine() }
    if ($Waiting.Count) { return $Waiting.Dequeue() }
    return $null
}

# In one piece: the console's own writer cuts what it is given into pieces of 256 characters, each a message on the wire.
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
