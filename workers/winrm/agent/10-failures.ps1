# Part of the agent: what all other parts use, and failures as values. docs/agent-protocol.md, version 1.
#
# Runs on Windows PowerShell 3.0 to 5.1 (.NET 4.5) and PowerShell 7. The parts are joined in the order of their names and
# sent without comments and indentation. The bootstrap reads this text from stdin and the requests follow there: no child
# process may inherit stdin, and the text must not contain the name of the automatic variable for piped data.
# Functions are assigned, not declared: for declarations, PSScriptAnalyzer's rule about overwritten built-in commands
# aborts the whole lint when the recordings of its default PowerShell are not installed.
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
# `-match` and `Sort-Object` follow the culture of the thread: in Turkish, I and i are different letters; in Thai, dots do not count.
[Threading.Thread]::CurrentThread.CurrentCulture = $Invariant
$Ascii = New-Object Text.ASCIIEncoding
$TimeFormat = "yyyy-MM-dd'T'HH:mm:ss.fffffff'Z'"

${function:Stop-Operation} = {
    param([string]$Slug, [string]$Message, [string]$Path = '', [int]$Code = 0)
    $refusal = New-Object InvalidOperationException $Message
    if ($Code) { $refusal.Data['code'] = $Code }
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

# Sharing violation, lock violation, and a file that Replace cannot remove; 11 is EWOULDBLOCK, .NET's code on Linux.
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

# A full disk, in the two ways in which Windows says it; 28 is ENOSPC, .NET's code on Linux.
$FullCodes = @(0x80070070, 0x80070027, 28)

${function:Get-FailedResult} = {
    param([Exception]$Failure, $Fields)
    $cause = Get-Cause $Failure
    $result = @{ ok = $false; error = (Get-Slug $cause); message = ($cause.Message -replace '\s+', ' ').Trim() }
    if ($cause -is [IO.IOException] -and $FullCodes -contains $cause.HResult) { $result['message'] += ' (error 112)' }
    $path = ''
    if ($cause.Data.Contains('path')) { $path = $cause.Data['path'] }
    foreach ($name in 'path', 'folder', 'program') {
        if (-not $path -and $Fields.ContainsKey($name) -and $Fields[$name] -is [string]) { $path = $Fields[$name] }
    }
    if ($path) { $result['path'] = $path }
    if ($cause.Data.Contains('code')) { $result['code'] = $cause.Data['code'] }
    return $result
}

${function:Get-TimeText} = {
    param([DateTime]$Time)
    return $Time.ToUniversalTime().ToString($TimeFormat, $Invariant)
}
