-- Online Retail, 4 of 6: ten products for every customer.
--
-- Question  What should each customer be shown next? And what goes with a product?
-- Reads     customers, products, interactions; models taste and returns_next_month (03_models.sql)
-- Writes    recommendations: customer_id, rank, product_id, score, source
-- Result    for three customers what they bought most and, beside it, what the model would show them first. Read it as
--           a shopkeeper: do the two belong together?

-- 1. Everybody's ten, without what they have bought already.
CREATE OR REPLACE TABLE recommendations AS
SELECT * FROM recommend('taste', (SELECT customer_id FROM customers), k => 10);

-- 2. One customer, by name of product.
SELECT r.rank, p.name, CAST(r.score AS numeric(6, 3)) AS score, r.source
FROM recommend('taste', 12347, k => 5) r
JOIN products p ON p.product_id = r.product_id
ORDER BY r.rank;

-- 3. A basket of somebody nobody knows yet: a red retrospot lunch bag and a red retrospot charlotte bag.
SELECT r.rank, p.name, CAST(r.score AS numeric(6, 3)) AS score
FROM recommend('taste', items => ARRAY['20725', '20724'], k => 5) r
JOIN products p ON p.product_id = r.product_id
ORDER BY r.rank;

-- 4. What is liked by the same people as the white hanging heart T-light holder?
SELECT s.rank, p.name, CAST(s.score AS numeric(6, 3)) AS similarity
FROM similar_items('taste', '85123A', k => 5) s
JOIN products p ON p.product_id = s.product_id
ORDER BY s.rank;

-- 5. Three good customers: what they bought most, and what they are shown.
WITH chosen AS (
    SELECT customer_id FROM orders GROUP BY customer_id HAVING count(*) BETWEEN 5 AND 8 ORDER BY sum(amount) DESC, customer_id LIMIT 3
),
bought AS (
    SELECT customer_id, product_id,
           row_number() OVER (PARTITION BY customer_id ORDER BY count(*) DESC, sum(quantity) DESC, product_id) AS place
    FROM interactions
    WHERE event_type = 'purchase' AND customer_id IN (SELECT customer_id FROM chosen)
    GROUP BY customer_id, product_id
)
SELECT b.customer_id, b.place, had.name AS bought_most, shown.name AS recommended
FROM bought b
JOIN recommendations r ON r.customer_id = b.customer_id AND r.rank = b.place
JOIN products had ON had.product_id = b.product_id
JOIN products shown ON shown.product_id = r.product_id
WHERE b.place <= 5
ORDER BY b.customer_id, b.place;
