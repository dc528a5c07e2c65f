# Turns data/interceptors.tsv into rows of a C table; fails on a line that is not pattern<TAB>name.
BEGIN { FS = "\t" }
/^#/ || /^[ ]*$/ { next }
NF != 2 || $1 == "" || $2 == "" {
	printf "%s:%d: not \"pattern<TAB>name\"\n", FILENAME, FNR > "/dev/stderr"
	failed = 1
	exit 1
}
{
	gsub(/["\\]/, "\\\\&", $1)
	gsub(/["\\]/, "\\\\&", $2)
	printf "{\"%s\", \"%s\"},\n", $1, $2
}
END { if (failed) exit 1 }
