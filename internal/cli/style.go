package cli

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/term"
)

const goarch = runtime.GOARCH

// style says how text may look on a stream.
type style struct {
	terminal bool // a person is watching: bars and rewritten lines
	color    bool // ANSI attributes are allowed
}

// styleOf looks at the stream and at NO_COLOR and TERM (no-color.org).
func (p *program) styleOf(stream io.Writer) style {
	file, ok := stream.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return style{}
	}
	return style{terminal: os.Getenv("TERM") != "dumb", color: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// count writes a number with spaces nowhere and units of thousands: 134.5 M.
func count(n int64) string {
	switch value := float64(n); {
	case n >= 1e9:
		return fmt.Sprintf("%.2f G", value/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.2f M", value/1e6)
	case n >= 1e4:
		return fmt.Sprintf("%.1f k", value/1e3)
	}
	return fmt.Sprint(n)
}

// size writes bytes in decimal units.
func size(bytes int64) string {
	switch value := float64(bytes); {
	case bytes >= 1e9:
		return fmt.Sprintf("%.2f GB", value/1e9)
	case bytes >= 1e6:
		return fmt.Sprintf("%.1f MB", value/1e6)
	case bytes >= 1e3:
		return fmt.Sprintf("%.1f kB", value/1e3)
	}
	return fmt.Sprintf("%d B", bytes)
}

// span writes a duration to about two figures: 850 ms, 12 s, 3 min 20 s, 2 h 5 min.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

// shellWord quotes text for a shell where that is needed.
func shellWord(text string) string {
	safe := text != ""
	for _, letter := range text {
		safe = safe && (letter > 127 || letter >= 'a' && letter <= 'z' || letter >= 'A' && letter <= 'Z' || letter >= '0' && letter <= '9' || strings.ContainsRune("_-./:=+,@%", letter))
	}
	if safe {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// table writes rows as columns, the first left-aligned and the others right-aligned.
func table(out io.Writer, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if i == 0 {
				line.WriteString("  " + cell + pad)
			} else {
				line.WriteString("  " + pad + cell)
			}
		}
		_, _ = fmt.Fprintln(out, strings.TrimRight(line.String(), " "))
	}
}
