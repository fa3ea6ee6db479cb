# Million adds a second of 1, 2 and 8 processes; `data' and `png' are given.
set terminal pngcairo size 1400,900 font "Sans,11"
set output png
set datafile separator "\t"
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.9 border lc rgb "white"
set logscale y
most = 1
do for [column = 3:5] {
    stats data using column skip 1 nooutput
    most = STATS_max > most ? STATS_max : most
}
set yrange [0.1:most * 3] # the same in both panels
set ylabel "million a second"
set xtics nomirror
set ytics nomirror
set grid ytics lt 1 lw 1 lc rgb "#d0d0d0"
set key top right horizontal
lines(s) = words(s) < 2 ? s : word(s, 1)."\n".s[strlen(word(s, 1)) + 2:*]
set multiplot layout 2,1 title "Adds of all processes a second" font ",14"
do for [where in "one own"] {
    rows = "< awk -F'\\t' '$2 == \"".where."\"' '".data."'"
    set title where eq "one" ? "All on one counter" : "Each on its own, the next one"
    plot rows using 3:xtic(lines(stringcolumn(1))) lc rgb "#cccccc" title "1 process", \
         rows using 4 lc rgb "#0060ad" title "2", \
         rows using 5 lc rgb "#dd8800" title "8"
}
unset multiplot
