# The longest pause of a 1 ms ticker, one panel a condition; `data' and `png' are given.
set terminal pngcairo size 1300,1050 font "Sans,11"
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
set yrange [1:most * 3] # the same in all panels
set ylabel "ms"
set grid ytics lt 1 lw 1 lc rgb "#d0d0d0"
set xtics nomirror
set ytics nomirror
set bmargin 3.5

# Two words on a line.
rest(s) = words(s) < 3 ? "" : "\n".s[strlen(word(s, 1).word(s, 2)) + 3:*]
lines(s) = word(s, 1)." ".word(s, 2).rest(s)
ms(x) = sprintf("%.1f", x)

conditions = system("cut -f1 '".data."' | sed 1d | uniq | tr ' ' '_' | tr '\n' ' '")
set multiplot layout words(conditions),1 title "Longest pause of a 1 ms ticker beside the work, one scheduler" font ",14"
do for [c = 1:words(conditions)] {
    name = system("echo ".word(conditions, c)." | tr _ ' '")
    rows = "< awk -F'\\t' '$1 == \"".name."\"' '".data."'"
    set title name eq "alone" ? "Alone" : name eq "writer" ? "Beside a writer" : "As a user who is not root"
    set key top right horizontal
    plot rows using 3:xtic(lines(stringcolumn(2))) lc rgb "#cccccc" title "ticker alone", \
         rows using 4 lc rgb "#888888" title "raw file", \
         rows using 5 lc rgb "#0060ad" title "emmap", \
         rows using ($0 - 0.25):3:(ms($3)) with labels offset 0,0.6 font ",9" tc rgb "#888888" notitle, \
         rows using ($0):4:(ms($4)) with labels offset 0,0.6 font ",9" notitle, \
         rows using ($0 + 0.25):5:(ms($5)) with labels offset 0,0.6 font ",9" tc rgb "#0060ad" notitle
}
unset multiplot
