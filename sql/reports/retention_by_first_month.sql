-- Retention by month of first order.
--
-- Question  Of the customers who began in a month, how many ordered again one, two, … months later? Do later beginners
--           stay better than earlier ones?
-- Reads     orders
-- Result    one row for each of the last 12 months of beginning. m0 is the month of the first order and 100 by
--           definition; m1 is the percentage of the same customers who ordered in the next calendar month, and so on.
--           Read a row to the right for how a cohort fades, a column downwards for how cohorts differ. Months
--           that have not come yet are empty; the latest month is not over, so the last figure of each row is still
--           growing. In the very first month of the data, "beginners" include customers who are in truth older.

WITH months AS (
    SELECT DISTINCT customer_id, CAST(date_part('year', order_ts) * 12 + date_part('month', order_ts) AS int) AS month
    FROM orders
),
cohorts AS (
    SELECT customer_id, min(month) AS first_month FROM months GROUP BY customer_id
),
active AS (
    SELECT c.first_month, m.month - c.first_month AS month_nr, count(*) AS customers
    FROM cohorts c
    JOIN months m ON m.customer_id = c.customer_id
    GROUP BY c.first_month, m.month - c.first_month
),
shares AS (
    SELECT first_month, month_nr, customers,
           max(CASE WHEN month_nr = 0 THEN customers END) OVER (PARTITION BY first_month) AS cohort_size,
           (SELECT max(month) FROM months) AS latest_month
    FROM active
)
SELECT
    concat((first_month - 1) / 12, '-', lpad(CAST((first_month - 1) % 12 + 1 AS text), 2, '0')) AS first_order_in,
    max(cohort_size)                                                                            AS customers,
    CASE WHEN first_month + 0 <= latest_month THEN CAST(100.0 * sum(CASE WHEN month_nr = 0 THEN customers ELSE 0 END) / max(cohort_size) AS numeric(5, 1)) END AS m0,
    CASE WHEN first_month + 1 <= latest_month THEN CAST(100.0 * sum(CASE WHEN month_nr = 1 THEN customers ELSE 0 END) / max(cohort_size) AS numeric(5, 1)) END AS m1,
    CASE WHEN first_month + 2 <= latest_month THEN CAST(100.0 * sum(CASE WHEN month_nr = 2 THEN customers ELSE 0 END) / max(cohort_size) AS numeric(5, 1)) END AS m2,
    CASE WHEN first_month + 3 <= latest_month THEN CAST(100.0 * sum(CASE WHEN month_nr = 3 THEN customers ELSE 0 END) / max(cohort_size) AS numeric(5, 1)) END AS m3,
    CASE WHEN first_month + 4 <= latest_month THEN CAST(100.0 * sum(CASE WHEN month_nr = 4 THEN customers ELSE 0 END) / max(cohort_size) AS numeric(5, 1)) END AS m4,
    CASE WHEN first_month + 5 <= latest_month THEN CAST(100.0 * sum(CASE WHEN month_nr = 5 THEN customers ELSE 0 END) / max(cohort_size) AS numeric(5, 1)) END AS m5,
    CASE WHEN first_month + 6 <= latest_month THEN CAST(100.0 * sum(CASE WHEN month_nr = 6 THEN customers ELSE 0 END) / max(cohort_size) AS numeric(5, 1)) END AS m6,
    CASE WHEN first_month + 7 <= latest_month THEN CAST(100.0 * sum(CASE WHEN month_nr = 7 THEN customers ELSE 0 END) / max(cohort_size) AS numeric(5, 1)) END AS m7,
    CASE WHEN first_month + 8 <= latest_month THEN CAST(100.0 * sum(CASE WHEN month_nr = 8 THEN customers ELSE 0 END) / max(cohort_size) AS numeric(5, 1)) END AS m8,
    CASE WHEN first_month + 9 <= latest_month THEN CAST(100.0 * sum(CASE WHEN month_nr = 9 THEN customers ELSE 0 END) / max(cohort_size) AS numeric(5, 1)) END AS m9,
    CASE WHEN first_month + 10 <= latest_month THEN CAST(100.0 * sum(CASE WHEN month_nr = 10 THEN customers ELSE 0 END) / max(cohort_size) AS numeric(5, 1)) END AS m10,
    CASE WHEN first_month + 11 <= latest_month THEN CAST(100.0 * sum(CASE WHEN month_nr = 11 THEN customers ELSE 0 END) / max(cohort_size) AS numeric(5, 1)) END AS m11
FROM shares
WHERE first_month > latest_month - 12
GROUP BY first_month, latest_month
ORDER BY first_month;
