package tokenizer

import (
	"fmt"
	"strings"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/exec"
)

// This file repairs what gonja v2.9.1 does otherwise than Jinja and real templates use (TestRenderGolden): l[-1] of a list of one
// element is None, str.replace demands its third argument, tojson escapes for HTML, range leaks a goroutine when a loop breaks.
// Left as it is: None prints as "" and a dict's items come sorted by key.

// pyList is a list whose [-n] reaches the first element too.
type pyList []any

// GetItem implements exec.ItemGetter.
func (l pyList) GetItem(key any) (*exec.Value, bool) {
	i, ok := key.(int)
	if ok && i < 0 {
		i += len(l)
	}
	if !ok || i < 0 || i >= len(l) {
		return exec.AsValue(nil), false
	}
	return exec.AsValue(l[i]), true
}

func toList(parts []string) pyList {
	list := make(pyList, len(parts))
	for i, p := range parts {
		list[i] = p
	}
	return list
}

// strNames are the methods of str kept from gonja; replace and split follow.
var strNames = strings.Fields("capitalize capwords casefold center count endswith expandtabs find format format_map index isalnum isalpha isascii isdecimal " +
	"isdigit islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip partition rfind rindex rjust rpartition rstrip splitlines " +
	"startswith strip swapcase title upper zfill removeprefix removesuffix")

// methods are gonja's with str.replace and str.split repaired.
func methods() exec.Methods {
	str := map[string]exec.Method[string]{"replace": strReplace, "split": strSplit, "rsplit": strRSplit}
	for _, name := range strNames {
		if m, ok := builtins.Methods.Str.Get(name); ok {
			str[name] = m
		}
	}
	all := builtins.Methods
	all.Str = exec.NewMethodSet(str)
	return all
}

func strReplace(self string, _ *exec.Value, args *exec.VarArgs) (any, error) {
	var old, new string
	var count int
	if err := args.Take(exec.PositionalArgument("old", nil, exec.StringArgument(&old)),
		exec.PositionalArgument("new", nil, exec.StringArgument(&new)),
		exec.PositionalArgument("count", exec.AsValue(-1), exec.IntArgument(&count))); err != nil {
		return nil, exec.ErrInvalidCall(err)
	}
	return strings.Replace(self, old, new, count), nil
}

// separator reads (sep=None, maxsplit=-1); "" stands for white space.
func separator(args *exec.VarArgs) (sep string, most int, err error) {
	if len(args.Args) > 0 && args.Args[0].IsNil() {
		args.Args[0] = exec.AsValue("")
	}
	err = args.Take(exec.PositionalArgument("sep", exec.AsValue(""), exec.StringArgument(&sep)),
		exec.PositionalArgument("maxsplit", exec.AsValue(-1), exec.IntArgument(&most)))
	if err != nil {
		return "", 0, exec.ErrInvalidCall(err)
	}
	if sep == "" && most >= 0 {
		return "", 0, fmt.Errorf("split by white space with maxsplit is not supported")
	}
	return sep, most, nil
}

func strSplit(self string, _ *exec.Value, args *exec.VarArgs) (any, error) {
	sep, most, err := separator(args)
	switch {
	case err != nil:
		return nil, err
	case sep == "":
		return toList(strings.Fields(self)), nil
	case most >= 0:
		return toList(strings.SplitN(self, sep, most+1)), nil
	}
	return toList(strings.Split(self, sep)), nil
}

func strRSplit(self string, _ *exec.Value, args *exec.VarArgs) (any, error) {
	sep, most, err := separator(args)
	switch {
	case err != nil:
		return nil, err
	case sep == "":
		return toList(strings.Fields(self)), nil
	}
	parts := strings.Split(self, sep)
	if extra := len(parts) - 1 - most; most >= 0 && extra > 0 {
		parts = append([]string{strings.Join(parts[:extra+1], sep)}, parts[extra+1:]...)
	}
	return toList(parts), nil
}

// maxRange bounds range(), as Jinja's sandbox does.
const maxRange = 100_000

// pyRange is Jinja's range as a list.
func pyRange(_ *exec.Evaluator, args *exec.VarArgs) (pyList, error) {
	numbers := []int{}
	for _, a := range args.Args {
		if !a.IsInteger() {
			return nil, fmt.Errorf("range: want whole numbers")
		}
		numbers = append(numbers, a.Integer())
	}
	start, stop, step := 0, 0, 1
	switch len(numbers) {
	case 1:
		stop = numbers[0]
	case 2:
		start, stop = numbers[0], numbers[1]
	case 3:
		start, stop, step = numbers[0], numbers[1], numbers[2]
	default:
		return nil, fmt.Errorf("range: want 1 to 3 numbers")
	}
	if step == 0 {
		return nil, fmt.Errorf("range: the step is 0")
	}
	list := pyList{}
	for i := start; (step > 0 && i < stop) || (step < 0 && i > stop); i += step {
		if len(list) >= maxRange {
			return nil, fmt.Errorf("range: more than %d numbers", maxRange)
		}
		list = append(list, i)
	}
	return list, nil
}
