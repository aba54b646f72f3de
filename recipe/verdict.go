package recipe

// Verdict is what became of a published claim.
type Verdict string

// The verdicts.
const (
	Reproduced    Verdict = "reproduced"
	Partly        Verdict = "partly reproduced"
	NotReproduced Verdict = "not reproduced"
)

// Claim is a published statement held against what was measured.
type Claim struct {
	// Statement is the claim, Published its figure as published, Measured ours.
	Statement string `json:"claim"`
	Published string `json:"published"`
	Measured  string `json:"measured"`
	// Verdict with the rule that gave it and why.
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason"`
}

// overall is the verdict on all claims together: that of all where they agree, else Partly.
func overall(claims []Claim) Verdict {
	if len(claims) == 0 {
		return NotReproduced
	}
	for _, c := range claims[1:] {
		if c.Verdict != claims[0].Verdict {
			return Partly
		}
	}
	return claims[0].Verdict
}

// Findings is what an experiment found.
type Findings struct {
	Claims  []Claim
	Tables  []Table
	Figures []Figure
	// Settings says in sentences what was computed and which choices are ours; Limits what the results cannot support.
	Settings, Limits []string
}

// Table is rows of text under a header.
type Table struct {
	Title  string
	Header []string
	Rows   [][]string
	// Note is a sentence under the table.
	Note string
}
