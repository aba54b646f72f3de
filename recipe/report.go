package recipe

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/polargo/polar/internal/atomicfile"
)

// writeReport writes the figures, the report and the summary into the folder.
func (f *folder) writeReport(r Recipe, s *Summary, findings Findings) error {
	for _, figure := range findings.Figures {
		if err := figure.write(f.dir); err != nil {
			return err
		}
	}
	s.Report = filepath.Join(f.dir, reportFile)
	text := report(r, s, findings, f.identity)
	if err := atomicfile.WriteBytes(s.Report, []byte(text)); err != nil {
		return err
	}
	return f.writeJSON(summaryFile, s)
}

// report is the whole report in Markdown.
func report(r Recipe, s *Summary, findings Findings, id identity) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say("# %s: %s\n", r.Name, r.Summary)
	say("Repeats %s. Overall: **%s**.\n", r.Source, s.Verdict)
	writeTable(&b, Table{Header: []string{"claim", "published", "measured", "verdict"}, Rows: claimRows(findings.Claims)})
	for _, c := range findings.Claims {
		say("- **%s**: %s. %s", c.Statement, c.Verdict, c.Reason)
	}
	if len(findings.Limits) > 0 {
		say("\n## What these results cannot support\n")
		for _, limit := range findings.Limits {
			say("- %s", limit)
		}
	}
	say("\n## How it was run\n")
	say("    %s\n", s.Command)
	say("%s: %d trials, seeds %s, %s of training. Machine: %s.", s.Size, s.Trials, seedList(s.Seeds), roughly(s.Seconds), s.Machine)
	say("Means are over seeds, ± is their standard error.\n")
	for i, v := range id.Versions {
		if i > 0 {
			say("\nSome trials were computed with other versions:\n")
		}
		say("Versions: %s.", versionList(v))
	}
	say("\n## Settings\n")
	for _, line := range findings.Settings {
		say("- %s", line)
	}
	for _, figure := range findings.Figures {
		say("\n## %s\n\n![%s](%s)", figure.Title, figure.Title, figure.File)
	}
	for _, table := range findings.Tables {
		say("\n## %s\n", table.Title)
		writeTable(&b, table)
	}
	say("\n## Settings file\n\n```yaml\n%s```", id.Settings)
	return b.String()
}

func claimRows(claims []Claim) (rows [][]string) {
	for _, c := range claims {
		rows = append(rows, []string{c.Statement, c.Published, c.Measured, string(c.Verdict)})
	}
	return rows
}

// writeTable writes a table in Markdown, its note under it and a blank line after.
func writeTable(b *strings.Builder, t Table) {
	row := func(cells []string) {
		escaped := make([]string, len(cells))
		for i, cell := range cells {
			escaped[i] = strings.ReplaceAll(cell, "|", "\\|")
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(escaped, " | "))
	}
	row(t.Header)
	row(slices.Repeat([]string{"---"}, len(t.Header)))
	for _, cells := range t.Rows {
		row(cells)
	}
	if t.Note != "" {
		fmt.Fprintf(b, "\n%s\n", t.Note)
	}
	b.WriteByte('\n')
}

// versionList writes versions as "go go1.26.5, platform linux/amd64, …".
func versionList(v map[string]string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(v)) {
		parts = append(parts, key+" "+v[key])
	}
	return strings.Join(parts, ", ")
}

// seedList writes seeds as "0 to 5", which they are unless there is one.
func seedList(seeds []int64) string {
	if len(seeds) == 1 {
		return fmt.Sprint(seeds[0])
	}
	return fmt.Sprintf("%d to %d", seeds[0], seeds[len(seeds)-1])
}

// roughly writes a time to the second.
func roughly(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}
