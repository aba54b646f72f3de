package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/polargo/polar/internal/nearest"
)

// The exit statuses.
const (
	statusOK          = 0
	statusFailed      = 1
	statusUsage       = 2
	statusInterrupted = 130 // 128 + SIGINT, as shells report it
)

// problem is an error with an exit status and, where it helps, a hint on what to do.
type problem struct {
	status int
	cause  error
	hint   string
}

func (p *problem) Error() string { return p.cause.Error() }
func (p *problem) Unwrap() error { return p.cause }

// usagef is an error in what the user wrote, not in what was found: exit status 2.
func usagef(hint, format string, args ...any) error {
	return &problem{status: statusUsage, cause: fmt.Errorf(format, args...), hint: hint}
}

// failf is any other error: exit status 1.
func failf(hint, format string, args ...any) error {
	return &problem{status: statusFailed, cause: fmt.Errorf(format, args...), hint: hint}
}

// report prints err as one line, the hint as another, and returns the exit status.
func report(stderr io.Writer, err error) int {
	status, hint := statusFailed, ""
	var parse *kong.ParseError
	var known *problem
	statement := oneLine(err.Error())
	switch {
	case errors.As(err, &known):
		status, hint = known.status, known.hint
	case errors.As(err, &parse):
		status = statusUsage
		statement, hint = parseHint(parse, statement)
	}
	_, _ = fmt.Fprintf(stderr, "polar: %s\n", withoutSecrets(statement))
	if hint != "" {
		_, _ = fmt.Fprintf(stderr, "hint: %s\n", withoutSecrets(oneLine(hint)))
	}
	return status
}

// withoutSecrets replaces the hub's token, should a library have put it into a message.
func withoutSecrets(text string) string {
	for _, name := range []string{"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"} {
		if secret := os.Getenv(name); secret != "" {
			text = strings.ReplaceAll(text, secret, "$"+name)
		}
	}
	return text
}

// wrongChoice is how the parser reports a value outside a flag's choices.
var wrongChoice = regexp.MustCompile(`^(--\S+) must be one of (.*) but got "(.*)"$`)

// parseHint turns a parser's message into statement and hint: the nearest name, or where the help is.
func parseHint(parse *kong.ParseError, message string) (statement, hint string) {
	statement, _, _ = strings.Cut(message, ", did you mean")
	statement = strings.Replace(statement, `but got "EOL" (<EOL>)`, "but nothing follows", 1)
	if name, ok := strings.CutPrefix(statement, "unknown flag "); ok && parse.Context != nil {
		var flags []string
		for _, flag := range parse.Context.Flags() {
			if !flag.Hidden {
				flags = append(flags, "--"+flag.Name)
			}
		}
		if near := nearest.Word(name, flags); near != "" {
			return statement, "did you mean " + near + "?"
		}
	}
	if name, ok := strings.CutPrefix(statement, "unexpected argument "); ok && parse.Context != nil && parse.Context.Selected() == nil {
		var commands []string
		for _, child := range parse.Context.Model.Children {
			commands = append(commands, child.Name)
		}
		statement = "unknown command " + name
		if near := nearest.Word(name, commands); near != "" {
			return statement, "did you mean 'polar " + near + "'?"
		}
		return statement, "the commands are " + strings.Join(commands, ", ")
	}
	if wrong := wrongChoice.FindStringSubmatch(statement); wrong != nil {
		choices := strings.Split(strings.ReplaceAll(wrong[2], `"`, ""), ",")
		statement = fmt.Sprintf("%s: unknown value %q, want one of %s", wrong[1], wrong[3], strings.Join(choices, ", "))
		if near := nearest.Word(wrong[3], choices); near != "" {
			return statement, "did you mean " + near + "?"
		}
		return statement, ""
	}
	help := "polar --help"
	if parse.Context != nil {
		if node := parse.Context.Selected(); node != nil {
			help = "polar " + node.Name + " --help"
		}
	}
	return statement, "see '" + help + "'"
}

// oneLine joins the lines of a message.
func oneLine(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
