package workload

// What names, addresses and descriptions are made of.
var (
	firstNames = []string{"Robert", "James", "Judy", "Christopher", "Nicole", "Patricia", "Michael", "Linda", "David", "Susan", "Daniel",
		"Jennifer", "Brian", "Maria", "Kevin", "Anna", "Thomas", "Laura", "Peter", "Emily", "Carlos", "Sarah", "Joseph", "Amanda",
		"William", "Cindy", "Deborah", "Tyler", "Catherine", "Adam", "Samantha", "Gregory", "Holly", "Victor", "Diana", "Marcus"}
	lastNames = []string{"Murphy", "Anderson", "Hamilton", "White", "Meyer", "Lopez", "Garcia", "Johnson", "Clark", "Young", "Nguyen",
		"Patel", "Kim", "Brown", "Wilson", "Martin", "Baker", "Scott", "Adams", "Turner", "Phillips", "Campbell", "Parker", "Evans",
		"Collins", "Stewart", "Morris", "Rogers", "Reed", "Cook", "Morgan", "Bell", "Bailey", "Cooper", "Richardson", "Cox"}
	streetKinds = []string{"Mills", "Street", "Avenue", "Road", "Lane", "Drive", "Court", "Square", "Hills", "Plains", "Ridge",
		"Crossing", "Station", "Harbor", "Gardens", "Meadows", "Valley", "Village", "Summit", "Union"}
	plainWords = []string{"about", "above", "action", "always", "among", "answer", "around", "beyond", "bring", "build", "carry",
		"center", "chance", "change", "choose", "clear", "common", "course", "decide", "describe", "direction", "during", "early",
		"effort", "energy", "enjoy", "enough", "evening", "every", "example", "family", "figure", "follow", "forward", "garden",
		"general", "glass", "happen", "history", "however", "imagine", "include", "instead", "interest", "language", "learn",
		"listen", "manage", "matter", "measure", "memory", "moment", "morning", "movement", "nature", "notice", "office", "paper",
		"pattern", "perhaps", "picture", "possible", "present", "produce", "quality", "question", "quickly", "reason", "result",
		"return", "season", "simple", "society", "spring", "station", "strong", "summer", "support", "thought", "through",
		"together", "travel", "understand", "value", "voice", "weather", "window", "winter", "wonder", "writer"}
)
