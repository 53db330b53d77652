# Batch: the same for a PowerShell that reads stdin to its end and passes all lines at once.
$ProgressPreference = 'SilentlyContinue'
if ($ExecutionContext.SessionState.LanguageMode -ne 'FullLanguage') { exit 3 }
$Received = New-Object Collections.Queue
foreach ($line in $input) { $Received.Enqueue([string]$line) }
if (-not $Received.Count) { exit 4 }
# The agent begins with the version of its protocol: without it, nothing of the agent has run.
try { . ([ScriptBlock]::Create([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($Received.Dequeue())))) }
catch {
    [Console]::Error.WriteLine("$($_.FullyQualifiedErrorId): $_")
    if (Test-Path -LiteralPath 'variable:ProtocolVersion') { exit 14 }
    exit 13
}
exit 0
