# A text file as a C string: awk -v name=NAME -f text-to-c.awk FILE
BEGIN { printf "static const char %s[] =\n", name }
{ gsub(/\\/, "\\\\"); gsub(/"/, "\\\""); gsub(/\t/, "\\t"); printf "        \"%s\\n\"\n", $0 }
END { print "        \"\";" }
