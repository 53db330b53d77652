# Conversation: reads the agent from the first line of stdin and runs it. The agent reads each request from stdin as it arrives.
$ProgressPreference = 'SilentlyContinue'
if ($ExecutionContext.SessionState.LanguageMode -ne 'FullLanguage') { exit 3 }
$line = [Console]::In.ReadLine()
if (-not $line) { exit 4 }
. ([ScriptBlock]::Create([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($line))))
exit 0
