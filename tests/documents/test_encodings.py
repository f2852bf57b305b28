"""Texts in old encodings are read as what they say."""

import random
import time

import pytest

from chat_api.documents.encodings import can_be_text, decoded
from chat_api.documents.errors import Unextractable

TEXTS = {
    "Russian": "Протокол заседания совета директоров от 12 марта. Присутствовали все члены совета, обсуждался бюджет.",
    "Ukrainian": "Договір про надання послуг. Сторони домовилися про таке: виконавець зобов'язується надати послуги.",
    "Japanese": "議事録：三月十二日の会議について。来年度の予算と新しい製品の計画について話し合いました。",
    "Chinese": "会议纪要：本次会议讨论了明年的预算以及新产品的开发计划，全体成员出席。请各部门在月底之前提交报告。",
    "Taiwanese": "會議紀錄：本次會議討論了明年的預算以及新產品的開發計畫，全體成員出席。請各部門於月底前提交報告。",
    "Korean": "회의록: 내년 예산과 신제품 개발 계획에 대해 논의하였습니다. 모든 구성원이 참석했습니다.",
    "Greek": "Πρακτικά της συνεδρίασης: συζητήθηκε ο προϋπολογισμός του επόμενου έτους και το σχέδιο προμηθειών.",
    "Hebrew": "פרוטוקול הישיבה: נדון התקציב לשנה הבאה ותוכנית הרכש. כל החברים נכחו.",
    "Arabic": "محضر الاجتماع: تمت مناقشة ميزانية العام القادم وخطة المشتريات. حضر جميع الأعضاء.",
    "Thai": "รายงานการประชุม: ที่ประชุมได้หารือเกี่ยวกับงบประมาณของปีหน้าและแผนการจัดซื้อ",
    "Polish": "Szanowni Państwo, uprzejmie informujemy o zmianie godzin otwarcia sklepu. Od przyszłego tygodnia "
    "sklep będzie czynny codziennie od ósmej rano do szóstej wieczorem. Dziękujemy za wyrozumiałość.",
    "Czech": "Vážení zákazníci, rádi bychom vás informovali o změně otevírací doby naší prodejny. Od příštího týdne "
    "bude prodejna otevřena každý den od osmi hodin ráno do šesti hodin večer. Těšíme se na vaši návštěvu.",
    "Turkish": "Sayın müşterilerimiz, mağazamızın çalışma saatlerinin değiştiğini bildirmek isteriz. Önümüzdeki "
    "haftadan itibaren mağazamız her gün sabah sekizden akşam altıya kadar açık olacaktır.",
    "Russian table": "Имя;Город\nИван;Москва\nПётр;Казань\n",
}
ENCODINGS = [
    ("Russian", "cp1251"), ("Russian", "koi8_r"), ("Russian", "cp866"), ("Russian", "iso8859_5"),
    ("Ukrainian", "cp1251"), ("Japanese", "cp932"), ("Japanese", "euc_jp"), ("Japanese", "iso2022_jp"),
    ("Chinese", "gb18030"), ("Chinese", "gbk"), ("Taiwanese", "big5"), ("Korean", "cp949"), ("Greek", "cp1253"),
    ("Greek", "iso8859_7"), ("Hebrew", "cp1255"), ("Arabic", "cp1256"), ("Arabic", "iso8859_6"), ("Thai", "cp874"),
    ("Polish", "cp1250"), ("Polish", "iso8859_2"), ("Czech", "cp1250"), ("Czech", "iso8859_2"), ("Turkish", "cp1254"),
    ("Russian table", "cp1251"),
]  # fmt: skip
WESTERN = """
Le café est fermé jusqu'à lundi.
Élève: François Müller, né à Besançon
Prénom;Nom;Âge
Où est la bibliothèque ? Elle est derrière l'hôtel.
Die Straße ist wegen Bauarbeiten gesperrt.
Müller, Jürgen; Köln
Größe: 5 m², Preis: 20 €
¿Cómo está usted?
Señor Núñez vivía en A Coruña.
São Paulo é a maior cidade do país.
Il caffè è freddo, però buono.
Jag älskar smörgåsar från Malmö.
Rødgrød med fløde er lækkert.
Hyvää päivää, mitä kuuluu?
Één kopje thee, alstublieft
Það er kalt á Íslandi í dag.
A naïve résumé from Zoë
“Hello,” she said — it’s late…
Price £5.00 or €6,00
Copyright © 2010 Example™. All rights reserved.
Temperature: 25 °C ± 2
# naïve approach int main(){ return 0; } // résumé
déjà vu
Zürich
mañana
""".strip().splitlines()


@pytest.mark.parametrize(("language", "encoding"), ENCODINGS)
def test_old_encodings_are_recognised(language: str, encoding: str) -> None:
    assert decoded(TEXTS[language].encode(encoding)) == TEXTS[language]


@pytest.mark.parametrize(("language", "encoding"), ENCODINGS)
def test_also_far_behind_ascii_and_in_a_long_text(language: str, encoding: str) -> None:
    text = "name,value\n" * 20_000 + TEXTS[language] * 2000
    assert (
        decoded(text.encode(encoding)) == text or encoding == "iso2022_jp"
    )  # whose sign is in the beginning


@pytest.mark.parametrize("text", WESTERN)
def test_short_western_texts_are_taken_for_nothing_else(text: str) -> None:
    assert decoded(text.encode("cp1252")) == text
    assert decoded(("x = 1\n" * 1000 + text).encode("cp1252")).endswith(text)


@pytest.mark.parametrize(
    "head",
    [
        '<html><head><meta charset="{}">',
        "<html><head><meta content='text/html; charset={}' http-equiv='Content-Type'>",
        '<?xml version="1.0" encoding="{}"?>',
    ],
)
@pytest.mark.parametrize(
    ("name", "text"), [("windows-1251", "Да"), ("Shift_JIS", "はい"), ("ISO-8859-2", "ťuk")]
)
def test_pages_say_how_they_are_encoded(head: str, name: str, text: str) -> None:
    page = head.format(name) + f"<p>{text}</p>"
    assert decoded(page.encode(name)) == page


@pytest.mark.parametrize(
    "name", ["utf-7", "idna", "zip", "unicode_escape", "undefined", "nothing", "x" * 50, "é"]
)
def test_other_names_on_pages_mean_nothing(name: str) -> None:
    page = f'<meta charset="{name}"><p>+ADw-script+AD4- \\u003c café</p>'
    assert decoded(page.encode("cp1252")) == page


def test_a_page_that_is_utf_8_is_believed_more_than_what_it_says() -> None:
    page = '<meta charset="iso-8859-1"><p>Größe</p>'
    assert decoded(page.encode()) == page


def test_colours_of_a_terminal_are_no_encoding() -> None:
    assert decoded(b"\x1b[31mred\x1b[0m") == "\x1b[31mred\x1b[0m"
    assert decoded("\x1b$ größer".encode()) == "\x1b$ größer"


def test_any_bytes_are_read_in_little_time() -> None:
    chance = random.Random(1)
    began = time.thread_time()
    for _ in range(50):
        content = chance.randbytes(200_000).translate(None, bytes(range(32)))
        decoded(content)
    decoded(b"\x81" * 20_000_000)
    assert time.thread_time() - began < 10


def test_what_has_controls_is_no_text() -> None:
    assert not can_be_text(b"\x00\x01\x02\x03")
    with pytest.raises(Unextractable):
        decoded(b"\x00\x01\x02\x03")
    assert can_be_text("Größe".encode("cp1252"))
