"""Text of a server's console, in the code page that it uses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.winrm.decoding import decoded

SENTENCES = {
    "cp850": 'Der Befehl "powershell.exe" ist entweder falsch geschrieben oder\r\nwurde nicht gefunden: für Gerät',
    "cp437": "Accès refusé à l'ordinateur",
    "cp1252": "Zugriff verweigert: Gerät für Größe nicht verfügbar",
    "cp852": "Nazwa 'powershell.exe' nie jest rozpoznawana jako polecenie wewnętrzne, działający program, Łódź",
    "cp866": '"powershell.exe" не является внутренней или внешней командой.',
    "cp1251": "Отказано в доступе.",
    "cp932": "'powershell.exe' は、内部コマンドまたは外部コマンドとして認識されていません。",
    "cp936": "'powershell.exe' 不是内部或外部命令\uff0c也不是可运行的程序。",
    "cp949": "'powershell.exe'은(는) 내부 또는 외부 명령이 아닙니다.",
    "cp950": "'powershell.exe' 不是內部或外部命令、可執行的程式或批次檔。",
    "utf-8": "für 日本",
}


@pytest.mark.parametrize(("codec", "sentence"), SENTENCES.items(), ids=SENTENCES)
def test_a_message_of_windows_is_readable_before_the_code_page_is_known(codec: str, sentence: str) -> None:
    """As cmd.exe writes it in ten languages."""
    assert sentence == decoded(sentence.encode(codec))


@pytest.mark.parametrize(("codec", "sentence"), SENTENCES.items(), ids=SENTENCES)
def test_the_code_page_that_a_server_reports_is_used(codec: str, sentence: str) -> None:
    """UTF-8 comes first: it is what we ask for, and no other text is valid UTF-8 by chance."""
    page = 65001 if codec == "utf-8" else int(codec[2:])
    assert sentence == decoded(sentence.encode(codec), page)


@given(st.binary(max_size=200), st.sampled_from([0, 437, 932, 65001, 12345]))
def test_any_bytes_are_a_text_and_text_in_utf8_stays(data: bytes, code_page: int) -> None:
    """Decoding never fails; without a reported code page nothing becomes a replacement character."""
    text = decoded(data, code_page)
    assert code_page not in {0, 437, 65001, 12345} or "\ufffd" not in text or "\ufffd".encode() in data


@given(st.text(max_size=50))
def test_utf8_is_recognized(text: str) -> None:
    """Also when the beginning was cut within a character."""
    assert text == decoded(text.encode())
    cut = ("ü" + text).encode()[1:]
    assert text == decoded(cut)
