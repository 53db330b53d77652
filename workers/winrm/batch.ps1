# Batch: the same for a PowerShell that reads stdin to its end and passes all lines at once.
$ProgressPreference = 'SilentlyContinue'
if ($ExecutionContext.SessionState.LanguageMode -ne 'FullLanguage') { exit 3 }
$Received = New-Object Collections.Queue
foreach ($line in $input) { $Received.Enqueue([string]$line) }
if (-not $Received.Count) { exit 4 }
. ([ScriptBlock]::Create([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($Received.Dequeue()))))
exit 0
