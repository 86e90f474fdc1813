"""The language of a sentence, in each of the thirty languages that IFEval asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.language import LETTERS, SCRIPTS, WORDS, detect

SENTENCES = {
    "en": "The children went to the river because it was too hot to stay in the house.",
    "de": "Die Kinder gingen zum Fluss, weil es im Haus zu heiß war und sie nicht bleiben wollten.",
    "es": "Los niños fueron al río porque hacía demasiado calor para quedarse en la casa.",
    "fr": "Les enfants sont allés à la rivière parce qu'il faisait trop chaud dans la maison.",
    "it": "I bambini sono andati al fiume perché faceva troppo caldo per restare nella casa.",
    "pt": "As crianças foram para o rio porque estava quente demais e não queriam ficar em casa.",
    "pl": "Dzieci poszły nad rzekę, ponieważ w domu było za gorąco i nie chciały się nudzić.",
    "fi": "Lapset menivät joelle, koska talossa oli liian kuuma eivätkä he jaksaneet olla siellä.",
    "sw": "Watoto walienda mtoni kwa sababu kulikuwa na joto kali katika nyumba na hawakutaka kukaa.",
    "vi": "Bọn trẻ đã đi ra sông vì trong nhà quá nóng và chúng không muốn ở lại.",
    "ru": "Дети пошли к реке, потому что в доме было слишком жарко и они не хотели там оставаться.",
    "uk": "Діти пішли до річки, бо в хаті було надто спекотно і вони не хотіли там бути.",
    "bg": "Децата отидоха на реката, защото в къщата беше твърде горещо и те не искаха да останат.",
    "ar": "ذهب الأطفال إلى النهر لأن الجو كان حارا جدا في البيت ولم يكن هناك ماء.",
    "fa": "بچه ها به رودخانه رفتند چون هوا در خانه خیلی گرم بود و آنها این را نمی خواستند.",
    "ur": "بچے دریا پر گئے کیونکہ گھر میں بہت گرمی تھی اور وہ وہاں رہنا نہیں چاہتے تھے۔",
    "he": "הילדים הלכו לנהר כי היה חם מדי בבית.",
    "hi": "बच्चे नदी पर गए क्योंकि घर में बहुत गर्मी थी और वे वहाँ नहीं रहना चाहते थे।",
    "mr": "मुले नदीवर गेली कारण घरात खूप गरम होते आणि त्यांना तेथे राहायचे नाही.",
    "ne": "केटाकेटीहरू नदीमा गए किनभने घरमा धेरै गर्मी थियो र उनीहरू त्यहाँ बस्न चाहँदैनथे।",
    "bn": "ঘরে খুব গরম ছিল বলে বাচ্চারা নদীতে গেল।",
    "ta": "வீட்டில் மிகவும் வெப்பமாக இருந்ததால் குழந்தைகள் ஆற்றுக்குச் சென்றனர்.",
    "te": "ఇంట్లో చాలా వేడిగా ఉన్నందున పిల్లలు నదికి వెళ్లారు.",
    "kn": "ಮನೆಯಲ್ಲಿ ತುಂಬಾ ಸೆಖೆಯಾಗಿದ್ದರಿಂದ ಮಕ್ಕಳು ನದಿಗೆ ಹೋದರು.",
    "ml": "വീട്ടിൽ വളരെ ചൂടായതിനാൽ കുട്ടികൾ നദിയിലേക്ക് പോയി.",
    "gu": "ઘરમાં ખૂબ ગરમી હોવાથી બાળકો નદીએ ગયા.",
    "pa": "ਘਰ ਵਿੱਚ ਬਹੁਤ ਗਰਮੀ ਹੋਣ ਕਰਕੇ ਬੱਚੇ ਨਦੀ ਤੇ ਗਏ।",
    "th": "เด็กๆ ไปที่แม่น้ำเพราะในบ้านร้อนเกินไป",
    "ko": "집이 너무 더워서 아이들은 강으로 갔다.",
    "ja": "家の中が暑すぎたので、子供たちは川へ行きました。",
    "zh": "房子里太热了，所以孩子们去了河边。",
    "el": "Τα παιδιά πήγαν στο ποτάμι γιατί έκανε πολλή ζέστη στο σπίτι.",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_is_known_by_its_language(language: str) -> None:
    assert detect(SENTENCES[language]) == language
    assert detect(SENTENCES[language].upper()) == language
    assert detect(f"1. {SENTENCES[language]} (OK)") == language


def test_every_language_that_can_be_answered_is_tried() -> None:
    assert set(SENTENCES) == {language for languages in SCRIPTS.values() for language in languages}
    assert set(WORDS) == {language for languages in SCRIPTS.values() if len(languages) > 1 for language in languages}
    assert set(LETTERS) <= set(WORDS)


@pytest.mark.parametrize("text", ["", "12 + 30 = 42", "!?", "etchings", "A", "NASA", "🙂"])
def test_where_nothing_tells_no_language_is_named(text: str) -> None:
    assert detect(text) is None


def test_most_of_a_text_decides() -> None:
    assert detect(f"{SENTENCES['en']} She said 'да' and left.") == "en"


@given(st.text(max_size=200))
def test_any_text_has_a_known_language_or_none(text: str) -> None:
    assert detect(text) in {None, *SENTENCES}
