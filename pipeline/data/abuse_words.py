"""The words that abuse is recognised by (abuse.py), in English and German: a list of our own.

A word stands in the group that says when it counts; case and umlauts make no difference, `_` joins the words of a term.
What is harmless in another sense (a chink in armour, a Maine coon) counts only where somebody is called it. A module
and no file of data, since the cache key of a check follows imports: with another list, everything is checked again.
"""


def _terms(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Count wherever they stand, unless they are spoken about.
SLURS = _terms("""
    nigger niggers nigga niggas sandnigger sandniggers kike kikes faggot faggots wetback wetbacks raghead ragheads
    towelhead towelheads beaner beaners spics gooks pakis wogs pikey pikeys gyppo gyppos jigaboo jigaboos zipperhead
    zipperheads shemale shemales muzzies goatfucker goatfuckers
    schlitzauge schlitzaugen kümmeltürke kümmeltürken ziegenficker schwuchtel schwuchteln kampflesbe kampflesben
    judenschwein judenschweine türkenschwein türkenschweine moslemschwein moslemschweine negerschwein negerschweine
    ausländerpack asylantenpack zigeunerpack
""")

# With one of these before it, the German name of a group is a slur: Scheißausländer.
SLUR_PREFIXES = _terms("scheiss drecks sau mist")
GERMAN_GROUPS = _terms("jude türke araber moslem muslim pole russe neger kanake zigeuner ausländer flüchtling asylant")

# People that hate is called for against.
GROUPS = _terms("""
    jews muslims christians blacks whites asians mexicans arabs africans indians chinese immigrants migrants refugees
    foreigners gays lesbians homosexuals transgenders gypsies women feminists
    black_people white_people brown_people gay_people trans_people jewish_people muslim_people disabled_people
    juden muslime moslems christen schwarze schwarzen türken araber afrikaner polen russen ausländer flüchtlinge
    migranten asylanten zigeuner schwule schwulen lesben homosexuelle homosexuellen behinderte behinderten frauen
""")

# What hate says that they are.
DEHUMANISED = _terms("""
    vermin subhuman subhumans animals parasites scum cockroaches rats pigs savages filth trash garbage monkeys apes
    a_disease a_plague a_cancer
    ungeziefer abschaum untermenschen parasiten ratten tiere dreck schweine affen krebsgeschwür ein_krebsgeschwür
""")

# What it says that is to be done to them.
KILLED = _terms("""
    killed gassed exterminated shot lynched hanged hung eradicated burned burnt slaughtered raped sterilized sterilised
    beheaded executed
    vergast erschossen ausgerottet vernichtet umgebracht getötet verbrannt aufgehängt abgeschlachtet abgeknallt erhängt
    vergasen erschießen ausrotten vernichten umbringen töten verbrennen aufhängen abschlachten abknallen
""")

# Insults as what somebody is called; the plural of the English ones with -s is meant, too.
INSULTS = _terms("""
    idiot moron imbecile cretin retard dumbass dumbfuck fuckwit fuckface fuckhead shithead dipshit asshole arsehole
    asshat bastard bitch cunt dickhead prick twat wanker tosser bellend motherfucker cocksucker scumbag dirtbag
    douchebag douche slut whore skank hoe loser maggot degenerate halfwit dimwit nitwit simpleton scum vermin parasite
    cockroach cockroaches swine fat_pig dirty_pig filthy_pig disgusting_pig subhuman wretch libtard feminazi
    fag dyke tranny trannies chink spic gook paki jap coon kaffir wog
""")
GERMAN_INSULTS = _terms("""
    idiot vollidiot arschloch hurensohn wichser wixxer fotze schlampe missgeburt drecksau dreckschwein drecksack trottel
    depp spast spasti mongo penner hure nutte miststück mistkerl mistvieh bastard abschaum pisser arsch sau schwein
    untermensch nichtsnutz versager dummkopf schwachkopf hohlkopf vollpfosten krüppel ungeziefer parasit kanake neger
    judensau tunte
""")
GERMAN_INSULT_PLURALS = _terms("""
    idioten vollidioten arschlöcher hurensöhne wichser wixxer fotzen schlampen missgeburten drecksäue dreckschweine
    drecksäcke trottel deppen spasten spastis mongos penner huren nutten miststücke mistkerle bastarde pisser säue
    schweine untermenschen nichtsnutze versager dummköpfe schwachköpfe hohlköpfe krüppel parasiten kanaken tunten
""")
# Of these, animals are called so as well.
ANIMALS = _terms("sau schwein parasit ungeziefer")

# Insults as what somebody is said to be.
PREDICATES = _terms("""
    stupid dumb worthless pathetic disgusting brainless useless retarded braindead subhuman repulsive garbage trash scum
    filth vermin a_waste_of_space a_waste_of_oxygen a_waste_of_air a_disgrace_to_humanity
""")
GERMAN_PREDICATES = _terms("""
    dumm strohdumm saudumm blöd hässlich widerlich ekelhaft wertlos erbärmlich abschaum ungeziefer dreck nichts_wert
""")

# What stands between somebody and what he is called: articles, degrees, and adjectives that no praise has.
ARTICLES = _terms("a an the such just so nothing but ein eine einen so ja doch nur einfach")
FILLERS = _terms("""
    really very too all both absolutely absolute complete completely total totally utter utterly real bunch of pack lot
    fucking fuckin freaking bloody goddamn damn damned stinking stupid dumb dirty filthy fat ugly lazy lying miserable
    pathetic worthless useless disgusting ignorant brainless spineless gutless clueless incompetent sick rotten vile
    nasty slimy smug arrogant selfish greedy cheap sad crazy insane racist sexist inbred cheating thieving little old
    big huge white black brown retarded sensitive scandalous sorry excuse for
    echt wirklich total völlig absolut haufen stück gottverdammter gottverdammte gottverdammtes
    verdammter verdammte verdammtes verdammten verfluchter verfluchte verfluchtes dummer dumme dummes dummen
    blöder blöde blödes blöden alter alte altes alten dreckiger dreckige dreckiges dreckigen fetter fette fettes fetten
    fauler faule faules faulen kleiner kleine kleines kleinen mieser miese mieses miesen elender elende elendes elenden
    erbärmlicher erbärmliche erbärmliches hässlicher hässliche hässliches hässlichen widerlicher widerliche widerliches
    ekelhafter ekelhafte ekelhaftes ekliger eklige ekliges verlogener verlogene verlogenes verlogenen
""")
