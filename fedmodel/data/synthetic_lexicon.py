"""Words for made-up clinical notes: data only, all of our own writing.

A concept is a tuple of ways to say the same thing; a site has its favourite among them.
"""

__all__ = [
    "CLASSES", "CLOSINGS", "COMPLAINTS", "CONTEXTS", "COURSES", "DRUGS", "FAMILY", "FEMALE",
    "FINDINGS", "HEADERS", "HISTORIES", "IDENTITIES", "MALE", "NEIGHBOURS", "SHARED_DRUGS",
    "SHARED_FINDINGS", "SHARED_HISTORIES", "SHARED_SYMPTOMS", "SHORTENED", "SYMPTOMS", "VITALS",
    "WARDS",
]  # fmt: skip

Concepts = tuple[tuple[str, ...], ...]

CLASSES = ("cardiac", "infectious", "neurological", "orthopaedic", "respiratory")

# Classes whose patients complain of the same things.
NEIGHBOURS: dict[str, tuple[str, ...]] = {
    "cardiac": ("respiratory", "neurological", "respiratory"),
    "infectious": ("respiratory", "orthopaedic", "neurological"),
    "neurological": ("orthopaedic", "cardiac", "infectious"),
    "orthopaedic": ("neurological", "infectious", "neurological"),
    "respiratory": ("cardiac", "infectious", "cardiac"),
}

SYMPTOMS: dict[str, Concepts] = {
    "cardiac": (
        ("tightness across the chest", "central chest pain", "pressure behind the breastbone"),
        ("palpitations", "a racing heart", "an irregular heartbeat"),
        ("swollen ankles", "leg oedema", "puffy feet by the evening"),
        ("waking up short of breath", "nightly breathlessness"),
        ("pain spreading to the left arm", "discomfort in the jaw and left arm"),
        ("near fainting on standing", "a brief collapse", "syncope"),
        ("breathlessness on the stairs", "reduced exercise tolerance"),
        ("weight gain within days", "fluid retention"),
    ),
    "infectious": (
        ("fever with rigors", "shivering and high temperature", "spiking temperatures"),
        ("watery diarrhoea", "loose stools", "frequent liquid stools"),
        ("repeated vomiting", "being unable to keep food down"),
        ("burning on passing urine", "dysuria"),
        ("a hot red swelling of the leg", "spreading redness of the skin"),
        ("night sweats", "drenching sweats"),
        ("cramps in the belly", "abdominal cramps"),
        ("swollen glands in the neck", "tender lymph nodes"),
    ),
    "neurological": (
        ("sudden weakness of one side", "a weak right arm", "drooping of the face"),
        ("slurred speech", "trouble finding words", "dysarthria"),
        ("numbness of the fingers", "tingling in both feet", "pins and needles"),
        ("a throbbing headache", "headache with dislike of light", "migraine"),
        ("a fit with tongue biting", "jerking of the limbs", "a seizure"),
        ("spinning dizziness", "vertigo"),
        ("double vision", "blurred vision in one eye"),
        ("a tremor of the hand", "shaking at rest"),
    ),
    "orthopaedic": (
        ("pain in the hip after a fall", "a painful hip"),
        ("a swollen knee", "knee pain on bending", "a locking knee"),
        ("low back pain", "lumbar pain down the leg", "sciatica"),
        ("a twisted ankle", "being unable to bear weight"),
        ("a stiff shoulder", "pain on lifting the arm"),
        ("a deformed wrist", "wrist pain after a fall on the hand"),
        ("morning stiffness of the joints", "aching joints"),
        ("pain around the old plate", "pain at the site of the operation"),
    ),
    "respiratory": (
        ("a productive cough", "cough with green sputum", "a chesty cough"),
        ("wheezing at night", "wheeze", "a whistling chest"),
        ("shortness of breath", "difficulty in breathing", "breathlessness at rest"),
        ("pain on breathing in", "sharp pleuritic pain"),
        ("streaks of blood in the sputum", "coughing up blood"),
        ("more use of the inhaler", "needing the inhaler every few hours"),
        ("a hoarse voice", "a dry tickling cough"),
        ("broken sleep from coughing", "daytime sleepiness with snoring"),
    ),
}

SHARED_SYMPTOMS: Concepts = (
    ("tiredness", "fatigue", "lack of energy"),
    ("poor appetite", "eating little"),
    ("poor sleep", "sleeping badly"),
    ("feeling generally unwell", "malaise"),
    ("mild nausea", "feeling sick"),
    ("light-headedness", "dizziness"),
    ("weight loss", "loss of a few kilos"),
    ("worry about the symptoms", "anxiety"),
    ("aches all over", "muscle pain"),
    ("reduced mobility", "needing help with walking"),
)

FINDINGS: dict[str, Concepts] = {
    "cardiac": (
        ("a systolic murmur", "a murmur at the apex"),
        ("ST depression on the ECG", "ischaemic changes on the ECG"),
        ("an irregular pulse", "atrial fibrillation on the monitor"),
        ("raised troponin", "a rise in troponin"),
        ("a raised jugular venous pressure", "distended neck veins"),
        ("a reduced ejection fraction", "poor left ventricular function on echo"),
    ),
    "infectious": (
        ("raised white cells and CRP", "high inflammatory markers"),
        ("positive blood cultures", "growth in the blood culture"),
        ("nitrites in the urine", "a positive urine dipstick"),
        ("a tender warm area of skin", "cellulitis of the shin"),
        ("dry mucous membranes", "signs of dehydration"),
        ("stool sent for culture", "stool positive for toxin"),
    ),
    "neurological": (
        ("reduced power on one side", "pronator drift"),
        ("brisk reflexes", "an upgoing plantar reflex"),
        ("nystagmus on looking left", "an abnormal eye movement"),
        ("a small infarct on the CT head", "an ischaemic lesion on MRI"),
        ("reduced sensation in a glove pattern", "loss of vibration sense"),
        ("an unsteady gait", "ataxia on walking"),
    ),
    "orthopaedic": (
        ("a shortened and rotated leg", "a displaced fracture on X-ray"),
        ("an effusion of the knee", "a tender joint line"),
        ("a restricted range of movement", "movement limited by pain"),
        ("a healed fracture on X-ray", "callus on the film"),
        ("a positive straight leg raise", "spasm of the back muscles"),
        ("loss of joint space on X-ray", "osteoarthritis on the film"),
    ),
    "respiratory": (
        ("crackles at the right base", "coarse crackles"),
        ("expiratory wheeze", "wheeze in all zones"),
        ("consolidation on the chest film", "a shadow in the lower lobe"),
        ("a low peak flow", "an obstructive pattern on spirometry"),
        ("reduced air entry", "dullness at the base"),
        ("low oxygen on room air", "a need for two litres of oxygen"),
    ),
}

SHARED_FINDINGS: Concepts = (
    ("no acute distress", "a comfortable patient"),
    ("a soft abdomen", "an abdomen without tenderness"),
    ("normal heart sounds", "no murmur"),
    ("a clear chest", "good air entry on both sides"),
    ("no focal deficit", "a grossly normal neurological examination"),
    ("no swelling of the calves", "soft calves"),
    ("pallor", "a pale appearance"),
    ("routine bloods within limits", "unremarkable blood tests"),
)

DRUGS: dict[str, Concepts] = {
    "cardiac": (
        ("furosemide", "a loop diuretic"),
        ("bisoprolol", "a beta blocker"),
        ("aspirin and ticagrelor", "dual antiplatelet treatment"),
        ("an echocardiogram", "cardiology review with echo"),
        ("apixaban", "anticoagulation for the rhythm"),
    ),
    "infectious": (
        ("co-amoxiclav", "broad-spectrum antibiotics"),
        ("flucloxacillin", "antibiotics for the skin"),
        ("oral rehydration", "fluids and isolation in a side room"),
        ("nitrofurantoin", "a short course for the urine"),
        ("repeat cultures", "advice from microbiology"),
    ),
    "neurological": (
        ("clopidogrel", "secondary prevention of stroke"),
        ("levetiracetam", "an anticonvulsant"),
        ("MRI of the brain", "urgent brain imaging"),
        ("speech and swallow assessment", "speech therapy"),
        ("sumatriptan", "a triptan when needed"),
    ),
    "orthopaedic": (
        ("a plaster cast", "a back slab and sling"),
        ("theatre for fixation", "an operation on the next trauma list"),
        ("physiotherapy with crutches", "partial weight bearing"),
        ("a joint injection", "steroid injection of the joint"),
        ("X-ray in six weeks", "fracture clinic"),
    ),
    "respiratory": (
        ("salbutamol nebulisers", "a bronchodilator"),
        ("prednisolone", "a course of steroids"),
        ("doxycycline for the chest", "antibiotics for the chest"),
        ("spirometry", "lung function tests"),
        ("smoking cessation", "advice on inhaler technique"),
    ),
}

SHARED_DRUGS: Concepts = (
    ("paracetamol", "simple analgesia"),
    ("repeat bloods tomorrow", "bloods in the morning"),
    ("rest and fluids", "observation"),
    ("review by the medical team", "senior review"),
    ("physiotherapy", "mobilising with help"),
    ("a stool softener", "an antiemetic"),
    ("low molecular weight heparin", "thrombosis prophylaxis"),
    ("discharge with advice", "discharge when stable"),
    ("imaging to be arranged", "a scan to be booked"),
    ("a letter to the family doctor", "follow-up with the family doctor"),
)

HISTORIES: dict[str, Concepts] = {
    "cardiac": (("a heart attack years ago", "previous stents"), ("heart failure", "a weak heart")),
    "infectious": (("recurrent urine infections", "a recent infection"),
                   ("travel last month", "a recent trip abroad")),
    "neurological": (("a previous stroke", "an earlier TIA"), ("epilepsy", "fits since youth")),
    "orthopaedic": (("a hip replacement", "a previous fracture"),
                    ("osteoporosis", "brittle bones")),
    "respiratory": (("asthma", "asthma since childhood"), ("COPD", "chronic bronchitis")),
}  # fmt: skip

SHARED_HISTORIES: Concepts = (
    ("hypertension", "high blood pressure"),
    ("type 2 diabetes", "diabetes on tablets"),
    ("no relevant illness", "nothing of note"),
    ("hypothyroidism", "an underactive thyroid"),
    ("depression", "low mood"),
    ("smoking until last year", "tobacco use"),
    ("an allergy to penicillin", "penicillin allergy"),
    ("gallstones", "a removed gall bladder"),
)

COURSES = (
    "for {n} days", "since {n} days ago", "over the last {n} days", "for about {n} weeks",
    "on and off for {n} weeks", "getting worse over {n} days", "for the past {n} hours",
)  # fmt: skip

CONTEXTS = (
    "lives alone and manages the household", "lives with family", "works in an office",
    "is retired and walks daily", "was brought in by ambulance", "was sent by the family doctor",
    "came by own transport", "is a carer for a relative", "had a similar episode last year",
    "has not been abroad lately", "takes the usual tablets regularly", "drinks little alcohol",
)  # fmt: skip

COMPLAINTS = (
    "The patient presents with {a}, {b} and {c} {course}.",
    "Seen for {a} {course}, also {b} and {c}.",
    "Complains of {a} as well as {b} {course}; reports {c}.",
    "Admitted {course} with {a}; in addition {b} and {c}.",
    "{course}: {a}, {b}, {c}.",
    "Main problem is {a} {course}, with {b} and some {c}.",
)

VITALS = (
    "Temperature {t}, pulse {p}, blood pressure {s}/{d}, saturation {o}%.",
    "Pulse {p}, blood pressure {s}/{d}, temperature {t} and oxygen {o}%.",
    "Observations: blood pressure {s}/{d}, heart rate {p}, temp {t}, sats {o}%.",
    "{p} bpm, {s}/{d} mmHg, {t} degrees, {o}% on air.",
)

CLOSINGS = (
    "Patient informed and agrees.", "Family updated.", "Will be discussed at the morning round.",
    "To call back if worse.", "Nursing staff aware.", "Next review tomorrow.",
    "Letter to follow.", "Not for further tests today.",
)  # fmt: skip

# {name}, {mrn}, {age}, {sex}, {date}, {ward}, {phone}
IDENTITIES = (
    "{name}, {age}-year-old {sex}, MRN {mrn}, seen on {date}, ward {ward} (phone {phone}).",
    "{date}, ward {ward}, ext. {phone}: {name}, MRN {mrn}, {sex} aged {age}.",
    "Name: {name}. MRN {mrn}. Age {age}, {sex}. {date}, ward {ward}, tel {phone}.",
    "{name} ({age}, {sex}, MRN {mrn}), {date}. Ward {ward}, call {phone}.",
    "MRN {mrn} {name}, {sex}, {age} years, clinic of {date}, {ward} / {phone}.",
)

# Headers of: complaint, history, observations, examination, plan.
HEADERS = (
    ("", "", "", "", ""),
    ("HISTORY: ", "PMH: ", "OBS: ", "EXAM: ", "PLAN: "),
    ("Presenting complaint - ", "Past history - ", "Vitals - ", "Examination - ", "Plan - "),
    ("[S] ", "[S] ", "[O] ", "[O] ", "[P] "),
    ("PC: ", "Hx: ", "", "O/E: ", "Imp and plan: "),
    ("Anamnesis. ", "Background. ", "Status. ", "Findings. ", "Therapy. "),
)

SHORTENED = (
    ("The patient", "Pt"), ("blood pressure", "BP"), ("shortness of breath", "SOB"),
    ("presents with", "p/w"), ("Complains of", "c/o"), ("chest pain", "CP"), ("days", "d"),
    ("weeks", "wks"), ("with", "w/"), ("and", "+"), ("hypertension", "HTN"),
    ("temperature", "temp"), ("medical", "med"), ("examination", "exam"),
)  # fmt: skip

WARDS = ("2A", "3B", "4C", "5A", "6D", "7B", "8C", "9A")

FEMALE = (
    "Anna", "Beatriz", "Carla", "Dina", "Elena", "Farah", "Greta", "Hanna", "Ines", "Julia",
    "Katya", "Leila", "Maria", "Nadia", "Olga", "Paula", "Rosa", "Sofia", "Tessa", "Yasmin",
)  # fmt: skip

MALE = (
    "Adam", "Bruno", "Carlos", "David", "Emil", "Felix", "Georg", "Hugo", "Ivan", "Jonas",
    "Karim", "Lukas", "Marco", "Nils", "Omar", "Pavel", "Rafael", "Stefan", "Tomas", "Yusuf",
)  # fmt: skip

FAMILY = (
    "Abbott", "Almeida", "Baker", "Brandt", "Castillo", "Dahl", "Devaney", "Eriksen", "Farkas",
    "Fischer", "Garner", "Haddad", "Hollis", "Ibsen", "Jansen", "Kapoor", "Keller", "Kowalski",
    "Larkin", "Lindgren", "Marchetti", "Meyer", "Nakamura", "Novak", "Okafor", "Ortega", "Petrov",
    "Quinn", "Ramos", "Rossi", "Santos", "Schuster", "Silva", "Thorne", "Ulrich", "Varga", "Weber",
    "Winter", "Yilmaz", "Zeller",
)  # fmt: skip
